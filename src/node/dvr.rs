//! The archives of the node.

use std::sync::Arc;
use std::time::Duration;

use super::error::NodeError;
use crate::dvr;
use crate::edge::Store;
use crate::mesh::Mesh;
use crate::observe::Metrics;

/// How often a node tells what it keeps: three times until it is taken for dead, as the directory's entries.
const KEPT_INTERVAL: Duration = Duration::from_secs(5);

/// Opens the archives, and reads what a former run has left.
pub(super) fn keeper(settings: dvr::Settings, metrics: &Arc<Metrics>) -> Result<Arc<dvr::ArchiveWriter>, NodeError> {
    let dir = settings.disk.as_ref().map(|(dir, _)| dir.clone()).unwrap_or_default();
    dvr::ArchiveWriter::start(settings, Arc::clone(metrics)).map_err(|source| NodeError::Dvr { dir, source })
}

/// Tells the other nodes what this one keeps, for ever.
pub(super) async fn tell_kept(mesh: Mesh, store: Arc<Store>) {
    let mut each = tokio::time::interval(KEPT_INTERVAL);
    loop {
        each.tick().await;
        let kept = store.kept_here();
        if !kept.is_empty() {
            mesh.keep(kept);
        }
    }
}
