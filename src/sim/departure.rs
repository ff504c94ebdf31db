//! The departures from the papers by name, each with its switch back: for scenarios, and for the bench that
//! measures what each gains and costs.

use std::time::Duration;

use damson_core::plumtree::Optimise;
use damson_core::{hyparview as overlay, plumtree as broadcast};
use serde::Deserialize;

/// A rule of ours that isn't the papers'. What each is for stands where its settings do, in
/// HyParView's [`Config`](overlay::Config) and Plumtree's [`Config`](broadcast::Config).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Departure {
    /// A young node shuffles after a second, then ever more rarely.
    YoungShuffle,
    /// Several passive peers are asked at once, and a dial into nothing holds up no other.
    ParallelRefill,
    /// Who was dropped, and has enough neighbours, waits before it asks around.
    CalmRefill,
    /// A walk looks for another node with a free slot.
    Seek,
    /// A passive peer survives some failed dials.
    Patience,
    /// With too few neighbours the bootstrap addresses are asked again.
    Rebootstrap,
    /// A link is exchanged now and then, and when a failed peer may be back.
    Rotation,
    /// In a storm JOINs evict neighbours only at a pace, and are referred to others.
    Admission,
    /// Neighbours are asked whether they are.
    Audit,
    /// Links that the tree runs over are the last to be exchanged.
    TreeLinks,
    /// After X-BOT: some links are exchanged for nearer ones.
    Nearness,
    /// New links start lazy, and what is missing is grafted at once.
    LazyStart,
    /// Who grafts a live part announces it at once.
    Promise,
    /// All that is held is announced to a new neighbour.
    WindowOffer,
    /// A GRAFT that can't be served is answered.
    NotHere,
    /// A second copy is refused at its header.
    EarlyRefusal,
    /// Bodies are forwarded piece by piece.
    CutThrough,
    /// Who begins to receive a large body tells the others.
    Receiving,
    /// A torn transfer goes on at its offset.
    Resume,
    /// Graft timers know size, rate and progress.
    SizeAwareTimers,
    /// The tree is optimised on measured time rather than hops.
    TimeRule,
    /// Eager children are capped by the upload.
    UploadBudget,
    /// Neighbours compare what they hold.
    Digests,
}

impl Departure {
    /// All of them: those of the overlay, then those of the broadcast.
    pub const ALL: [Departure; 23] = [
        Departure::YoungShuffle,
        Departure::ParallelRefill,
        Departure::CalmRefill,
        Departure::Seek,
        Departure::Patience,
        Departure::Rebootstrap,
        Departure::Rotation,
        Departure::Admission,
        Departure::Audit,
        Departure::TreeLinks,
        Departure::Nearness,
        Departure::LazyStart,
        Departure::Promise,
        Departure::WindowOffer,
        Departure::NotHere,
        Departure::EarlyRefusal,
        Departure::CutThrough,
        Departure::Receiving,
        Departure::Resume,
        Departure::SizeAwareTimers,
        Departure::TimeRule,
        Departure::UploadBudget,
        Departure::Digests,
    ];

    /// What it is called in a scenario and on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Departure::YoungShuffle => "young-shuffle",
            Departure::ParallelRefill => "parallel-refill",
            Departure::CalmRefill => "calm-refill",
            Departure::Seek => "seek",
            Departure::Patience => "patience",
            Departure::Rebootstrap => "rebootstrap",
            Departure::Rotation => "rotation",
            Departure::Admission => "admission",
            Departure::Audit => "audit",
            Departure::TreeLinks => "tree-links",
            Departure::Nearness => "nearness",
            Departure::LazyStart => "lazy-start",
            Departure::Promise => "promise",
            Departure::WindowOffer => "window-offer",
            Departure::NotHere => "not-here",
            Departure::EarlyRefusal => "early-refusal",
            Departure::CutThrough => "cut-through",
            Departure::Receiving => "receiving",
            Departure::Resume => "resume",
            Departure::SizeAwareTimers => "size-aware-timers",
            Departure::TimeRule => "time-rule",
            Departure::UploadBudget => "upload-budget",
            Departure::Digests => "digests",
        }
    }

    /// The departure of this name.
    pub fn parse(name: &str) -> Option<Departure> {
        Departure::ALL.into_iter().find(|departure| departure.name() == name)
    }

    /// Puts the paper's rule in its place.
    pub fn switch_back(self, overlay: &mut overlay::Config, broadcast: &mut broadcast::Config) {
        let hyparview = overlay::Config::paper();
        match self {
            Departure::YoungShuffle => overlay.shuffle_first = overlay.shuffle_interval,
            Departure::ParallelRefill => {
                (overlay.refill_width, overlay.refill_hedge) = (hyparview.refill_width, hyparview.refill_hedge);
                (overlay.refill_width_max, overlay.contacts_max) = (hyparview.refill_width_max, hyparview.contacts_max);
            }
            Departure::CalmRefill => overlay.refill_calm = Duration::ZERO,
            Departure::Seek => overlay.seek_ttl = hyparview.seek_ttl,
            Departure::Patience => overlay.fails_max = hyparview.fails_max,
            Departure::Rebootstrap => overlay.active_min = hyparview.active_min,
            Departure::Rotation => overlay.rotate_interval = None,
            Departure::Admission => overlay.admit_interval = None,
            Departure::Audit => overlay.audit_interval = None,
            Departure::TreeLinks => overlay.spare_tree_links = false,
            Departure::Nearness => overlay.optimise_interval = None,
            Departure::LazyStart => broadcast.lazy_start = false,
            Departure::Promise => broadcast.promise = false,
            Departure::WindowOffer => broadcast.offer_window = false,
            Departure::NotHere => broadcast.not_here = false,
            Departure::EarlyRefusal => broadcast.refuse_duplicates = false,
            Departure::CutThrough => broadcast.cut_through = false,
            Departure::Receiving => broadcast.receiving_above = u32::MAX,
            Departure::Resume => broadcast.resume = false,
            Departure::SizeAwareTimers => broadcast.size_aware_timers = false,
            Departure::TimeRule => broadcast.optimise = Optimise::Hops { threshold: 3 },
            Departure::UploadBudget => broadcast.upload = None,
            Departure::Digests => broadcast.digest_interval = None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_switch_changes_something_and_all_together_are_the_papers_rules() {
        let ours = || {
            let broadcast = broadcast::Config { upload: Some(1), ..broadcast::Config::default() };
            (overlay::Config::default(), broadcast)
        };
        let (mut overlay, mut broadcast) = ours();
        for departure in Departure::ALL {
            assert_eq!(Departure::parse(departure.name()), Some(departure));
            let (mut one, mut other) = ours();
            departure.switch_back(&mut one, &mut other);
            assert_ne!((one, other), ours(), "{}", departure.name());
            departure.switch_back(&mut overlay, &mut broadcast);
        }
        assert_eq!(overlay, overlay::Config::paper());
        // Timeouts and batching are choices that the paper leaves open.
        let paper = broadcast::Config::paper();
        let broadcast::Config { graft_timeout_1, graft_timeout_2, ihave_delay, .. } = paper;
        assert_eq!(broadcast::Config { graft_timeout_1, graft_timeout_2, ihave_delay, ..broadcast }, paper);
    }
}
