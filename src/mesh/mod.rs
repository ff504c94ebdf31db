//! QUIC links between nodes, and the driver of the cores.
