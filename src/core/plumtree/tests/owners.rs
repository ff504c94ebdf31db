//! The parts by themselves: what each decides, and what it returns.

use super::*;
use crate::plumtree::bodies::{Bodies, Effect, Place};
use crate::plumtree::io::{Sending, Serve};
use crate::plumtree::key::Key;
use crate::plumtree::neighbours::{Neighbours, PeerSet, STALL, Slot};
use crate::plumtree::pulls::{HolderLinks, Missing, Offer, Pulls};
use crate::plumtree::store::{HeldBody, Store};
use crate::plumtree::transfers::{Coming, Head, Piece, Transfer, Transfers};
use crate::plumtree::tree::Tree;

const NOW: Time = Time::from_millis(1_000);
const NOBODY: fn() -> PeerSet = PeerSet::default;

fn set(slots: &[Slot]) -> PeerSet {
    slots.iter().fold(NOBODY(), |set, slot| set.union(PeerSet::one(*slot)))
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Neighbours 0 to 3, whose links were not measured.
fn neighbours() -> Neighbours {
    let mut neighbours = Neighbours::default();
    (0..4).for_each(|n| assert!(neighbours.add(NodeId(n)).is_some()));
    neighbours
}

fn key(n: u16) -> Key {
    Key::from(part(0, n))
}

fn offer(slot: Slot, hops: u8) -> Offer {
    Offer { slot, length: 1_000, had: Some((NOW, hops)), poor: false, unsent: false }
}

fn transfer(slot: Slot, n: u16, length: usize) -> Transfer {
    transfer_to(NOBODY(), slot, n, length)
}

fn transfer_to(to: PeerSet, slot: Slot, n: u16, length: usize) -> Transfer {
    let header = header(part(0, n), &body(part(0, n), length));
    Transfer::new(NOW, slot, header, trace(NodeId(9)), PeerSet::one(slot), to, NOBODY())
}

fn held(n: u16, length: usize) -> HeldBody {
    let body = body(part(0, n), length);
    HeldBody::new(header(part(0, n), &body), body, &Trace::default(), NOW)
}

fn sending(serve: Serve) -> Sending {
    match serve {
        Serve::Send(sending) => sending,
        other => panic!("{other:?}"),
    }
}

mod store {
    use super::*;

    #[test]
    fn a_held_body_goes_out_in_pieces_from_its_offset_and_is_then_known() {
        let mut held = held(0, PIECE_LEN_MAX + 500);
        let lengths = |serve| sending(serve).pieces.iter().map(Bytes::len).collect::<Vec<_>>();
        assert_eq!(lengths(held.serve(None, 0)), [PIECE_LEN_MAX, 500]);
        assert_eq!(held.known, NOBODY(), "a stranger enters no set");
        assert_eq!(lengths(held.serve(Some(3), 400)), [PIECE_LEN_MAX, 100]);
        assert_eq!((held.known, held.sent), (set(&[3]), set(&[3])));
        assert!(matches!(held.serve(Some(2), PIECE_LEN_MAX as u32 + 500), Serve::NotHere));
    }

    #[test]
    fn a_digest_lacks_what_is_newer_but_not_what_has_just_come() {
        let mut store = Store::default();
        for n in 0..3 {
            store.insert(key(n), held(n, 10), u64::MAX);
        }
        let digest = [TrackDigest { track: TrackId(0), newest: Some((epoch(1), (0, 0))), holes: vec![] }];
        assert!(store.lacking(NOW + ms(499), &digest).is_empty());
        assert_eq!(store.lacking(NOW + ms(500), &digest), [key(1), key(2)]);
        assert_eq!(store.lacking(NOW + ms(500), &[]).len(), 3);
    }
}

mod transfers {
    use super::*;

    #[test]
    fn a_head_begins_resumes_or_is_refused() {
        let mut transfers = Transfers::default();
        let of = |n| header(part(0, n), &body(part(0, n), 100));
        assert_eq!(transfers.head(&key(0), 1, &of(0), 0), Head::Begin);
        assert_eq!(transfers.head(&key(0), 1, &of(0), 10), Head::Wrong { conflict: false }, "nothing is here of it");
        transfers.begin(key(0), transfer(1, 0, 100));
        assert_eq!(transfers.head(&key(0), 2, &of(0), 0), Head::Duplicate { same: true });
        assert_eq!(
            transfers.head(&key(0), 1, &PartHeader { hash: [0; 32], ..of(0) }, 0),
            Head::Duplicate { same: false }
        );
        assert_eq!(
            transfers.tear(NOW, &key(0), 1).map(|torn| torn.holders),
            Some(set(&[2])),
            "2 has said that it has it"
        );
        assert_eq!(
            transfers.head(&key(0), 2, &PartHeader { hash: [0; 32], ..of(0) }, 0),
            Head::Wrong { conflict: true }
        );
        assert_eq!(transfers.head(&key(0), 2, &of(0), 1), Head::Wrong { conflict: false });
        assert_eq!(transfers.head(&key(0), 2, &of(0), 0), Head::Resume);
        for n in 1..u16::try_from(TRANSFERS_MAX).expect("few") {
            transfers.begin(key(n), transfer(1, n, 100));
        }
        assert_eq!(transfers.head(&key(999), 1, &of(999), 0), Head::Full);
    }

    #[test]
    fn pieces_go_on_to_those_who_want_them_and_known_bytes_do_not() {
        let mut transfers = Transfers::default();
        let whole = body(part(0, 0), 100);
        transfers.begin(key(0), transfer(1, 0, 100));
        let mut piece = |slot, range: std::ops::Range<usize>| transfers.piece(NOW, slot, &key(0), whole.slice(range));
        assert_eq!(piece(2, 0..10), Piece::Ignored);
        assert_eq!(piece(1, 0..60), Piece::New { bytes: whole.slice(0..60), to: NOBODY(), last: false });
        assert_eq!(piece(1, 0..41), Piece::Wrong, "more than the header promised");
        transfers.tear(NOW, &key(0), 1);
        transfers.resume(NOW, &key(0), 2, 20, set(&[3]));
        let coming = transfers.get_mut(&key(0)).expect("it comes in");
        assert_eq!(coming.holders, set(&[2, 3]));
        let sent = sending(coming.serve(0, 50, true));
        assert_eq!((sent.pieces, sent.again), (vec![whole.slice(50..60)], false));
        assert!(sending(coming.serve(0, 0, true)).again, "it asks anew");
        assert!(matches!(coming.serve(2, 0, true), Serve::NotHere), "it sends it itself");
        assert!(matches!(coming.serve(3, 61, true), Serve::NotHere));
        let mut piece = |range: std::ops::Range<usize>| transfers.piece(NOW, 2, &key(0), whole.slice(range));
        assert_eq!(piece(20..50), Piece::Known);
        assert_eq!(piece(50..100), Piece::New { bytes: whole.slice(60..100), to: set(&[0]), last: true });
        assert_eq!(transfers.complete(&key(0)).map(|transfer| transfer.whole()), Some(whole));
        assert_eq!(transfers.next_due(), None);
    }

    #[test]
    fn what_stands_still_is_stuck_if_others_have_it_and_an_orphan_if_nobody_sends_it() {
        let (mut transfers, mut neighbours, stall) = (Transfers::default(), neighbours(), STALL);
        transfers.begin(key(0), transfer(1, 0, 100));
        transfers.begin(key(1), transfer(2, 1, 100));
        transfers.begin(key(2), transfer(3, 2, 100));
        transfers.get_mut(&key(0)).expect("begun").holders.insert(3);
        transfers.tear(NOW, &key(2), 3);
        transfers.watch(NOW + stall);
        assert!(transfers.stalled(NOW + ms(399), &neighbours).next.is_none(), "not due");
        let found = transfers.stalled(NOW + stall, &neighbours);
        assert_eq!((found.stuck, found.orphans), (vec![(key(0), 1)], vec![]));
        // While other bytes come from 1 its body may stand still a while longer.
        neighbours.moved(NOW + ms(300), 1);
        transfers.watch(NOW + ms(500));
        let found = transfers.stalled(NOW + ms(500), &neighbours);
        assert_eq!((found.stuck, found.next), (vec![], Some(NOW + ms(700))));
        transfers.watch(NOW + stall * 12);
        assert_eq!(transfers.stalled(NOW + stall * 12, &neighbours).orphans, [key(2)]);
    }
}

mod pulls {
    use super::*;

    fn miss(pulls: &mut Pulls, n: u16, holders: &[Slot]) {
        let missing = Missing::new(&offer(holders[0], 1), set(holders), NOW, false);
        assert!(pulls.insert(key(n), missing).is_none());
    }

    fn choose(pulls: &mut Pulls, now: Time, n: u16, links: HolderLinks) -> Option<(Slot, bool)> {
        pulls.choose(now, &key(n), false, links, &Config::default()).map(|ask| (ask.slot, ask.is_first))
    }

    #[test]
    fn the_least_busy_holder_is_asked_and_each_in_turn() {
        let (mut pulls, neighbours, config) = (Pulls::default(), neighbours(), Config::default());
        let links = HolderLinks { eager: NOBODY(), full: NOBODY(), neighbours: &neighbours };
        miss(&mut pulls, 0, &[1, 2]);
        miss(&mut pulls, 1, &[1, 2]);
        assert!(pulls.is_due(NOW) && !pulls.is_due(NOW));
        assert_eq!(pulls.due(NOW, &neighbours, &config), [key(0), key(1)]);
        assert_eq!(choose(&mut pulls, NOW, 0, links), Some((1, true)));
        assert_eq!(choose(&mut pulls, NOW, 1, links), Some((2, true)));
        // The body begins elsewhere: another pull may.
        assert!(pulls.found(&key(1)).is_some_and(|missing| missing.is_asked_of(2)));
        assert!(pulls.take_freed() && !pulls.take_freed());
        // Nobody answers: the other holder is asked.
        let late = NOW + config.graft_timeout_2;
        assert_eq!(pulls.due(late, &neighbours, &config), [key(0)]);
        assert_eq!(choose(&mut pulls, late, 0, links), Some((2, false)));
        // It hasn't got it, and then nobody has.
        assert!(pulls.drop_holder(late, &key(0), 2).is_none());
        assert_eq!(pulls.due(late, &neighbours, &config), [key(0)]);
        assert!(pulls.drop_holder(late, &key(0), 1).is_some());
        assert_eq!(pulls.len(), 0);
    }

    #[test]
    fn a_pull_is_held_while_bytes_flow() {
        let (mut pulls, mut neighbours, config) = (Pulls::default(), neighbours(), Config::default());
        miss(&mut pulls, 0, &[1, 2]);
        let links = HolderLinks { eager: NOBODY(), full: NOBODY(), neighbours: &neighbours };
        assert_eq!(choose(&mut pulls, NOW, 0, links), Some((1, true)));
        let late = NOW + config.graft_timeout_2;
        neighbours.moved(late, 1);
        assert!(pulls.due(late, &neighbours, &config).is_empty());
        assert_eq!(pulls.due(late + STALL, &neighbours, &config), [key(0)]);
    }

    #[test]
    fn what_is_live_is_asked_of_the_tree_and_not_of_who_is_full() {
        let neighbours = neighbours();
        for (newest, asked) in [(true, 3), (false, 1)] {
            let mut pulls = Pulls::default();
            miss(&mut pulls, 0, &[1, 2, 3]);
            let links = HolderLinks { eager: set(&[2, 3]), full: set(&[2]), neighbours: &neighbours };
            let ask = pulls.choose(NOW, &key(0), newest, links, &Config::default()).expect("a holder");
            assert_eq!((ask.slot, ask.live), (asked, newest));
        }
    }

    #[test]
    fn a_waiter_waits_only_where_another_was_asked() {
        let (mut pulls, neighbours) = (Pulls::default(), neighbours());
        miss(&mut pulls, 0, &[1]);
        assert!(!pulls.wait(&key(0), 2), "nobody was asked yet");
        let links = HolderLinks { eager: NOBODY(), full: NOBODY(), neighbours: &neighbours };
        choose(&mut pulls, NOW, 0, links);
        assert!(pulls.wait(&key(0), 2) && !pulls.wait(&key(0), 1));
        assert!(!pulls.wait(&key(1), 2), "nothing is missing there");
        let lost = pulls.without(NOW, 1, false);
        assert_eq!(
            lost.iter().map(|(key, missing)| (*key, missing.waiters)).collect::<Vec<_>>(),
            [(key(0), set(&[2]))]
        );
    }

    #[test]
    fn the_least_urgent_is_forgotten_for_want_of_room() {
        let mut pulls = Pulls::default();
        let insert = |pulls: &mut Pulls, msn| {
            let missing = Missing::new(&offer(1, 1), NOBODY(), NOW, false);
            pulls.insert(Key::from(part(msn, 0)), missing).map(|(key, _)| key.msn)
        };
        for msn in 0..MISSING_MAX as Msn {
            assert_eq!(insert(&mut pulls, msn + 1), None);
        }
        assert_eq!(insert(&mut pulls, 0), Some(0), "the oldest segment");
        assert_eq!(insert(&mut pulls, Msn::MAX), Some(1));
    }
}

mod tree {
    use super::*;

    const CONFIG: fn() -> Config = Config::default;

    fn fed_by(parent: Slot) -> Tree {
        let mut tree = Tree::default();
        tree.began(parent, false);
        assert_eq!(tree.parent(), Some(parent));
        tree
    }

    #[test]
    fn who_sends_unasked_is_the_parent_and_a_pull_is_not() {
        let mut tree = fed_by(1);
        tree.began(2, true);
        assert_eq!((tree.parent(), tree.eager()), (Some(1), set(&[1])));
        tree.graft(2);
        tree.began(2, true);
        assert_eq!((tree.parent(), tree.children()), (Some(2), set(&[1])));
        tree.pruned_by(NOW, 2, true);
        assert_eq!((tree.parent(), tree.is_full(NOW, 2)), (None, true));
        assert!(!tree.is_full(NOW + ms(10_000), 2));
    }

    #[test]
    fn a_body_goes_to_the_children_that_lack_it_and_the_others_links_are_lazy_then() {
        let mut tree = fed_by(1);
        for child in [2, 3] {
            assert!(tree.grafted_by(NOW, child, None));
        }
        assert_eq!(tree.targets(1, set(&[1, 3]), set(&[0])), set(&[0, 2]));
        assert_eq!(tree.eager(), set(&[1, 2]), "3 has a parent, and it isn't this node");
        tree.graft(3);
        assert_eq!(tree.targets(1, set(&[1, 2, 3]), NOBODY()), NOBODY());
        assert_eq!(tree.eager(), set(&[1, 3]), "who was just asked to feed us stays");
    }

    #[test]
    fn children_are_capped_by_the_upload_once_the_rate_is_known() {
        let mut tree = fed_by(0);
        let upload = Some(40_000);
        assert!((1..=3).all(|child| tree.grafted_by(NOW, child, upload)), "the rate isn't known");
        for n in 0..=2 {
            tree.add_inflow(NOW + ms(1_000 * n), 10_000 - 10_000 * (n / 2));
        }
        assert_eq!(tree.inflow(NOW + ms(2_000)), 10_000);
        // 10 KB/s go four times into the upload, and half of that is promised.
        assert_eq!(tree.shed(NOW + ms(2_000), upload), Some(1));
        assert_eq!(tree.shed(NOW + ms(2_000), upload), None);
        assert!(!tree.grafted_by(NOW + ms(2_100), 1, upload));
        assert!(tree.grafted_by(NOW + ms(2_700), 1, upload), "it insists: nobody better was found");
    }

    #[test]
    fn an_earlier_neighbour_takes_the_parents_place_when_it_was_so_often_enough() {
        let (mut tree, neighbours) = (fed_by(1), neighbours());
        let missing = Missing::new(&offer(2, 1), NOBODY(), NOW, true);
        let mut came = |late| {
            let coming = Coming { slot: 1, received: NOW + ms(late), hops: 2 };
            tree.came(coming, &missing, &neighbours, &CONFIG())
        };
        assert_eq!((came(3), came(2), came(3)), (None, None, None), "not in a row");
        assert_eq!(came(3), Some(2));
        assert_eq!((tree.parent(), tree.eager()), (Some(2), set(&[2])));
    }
}

mod bodies {
    use super::*;

    fn lost(to: &[Slot], n: u16, lost: bool) -> Effect {
        Effect::NotHere { to: set(to), id: part(0, n), lost }
    }

    #[test]
    fn a_torn_body_is_missing_again_if_somebody_else_has_it() {
        let (mut bodies, config) = (Bodies::default(), Config::default());
        for n in 0..2 {
            bodies.begin(key(n), transfer(1, n, 100), false);
        }
        assert!(matches!(bodies.held_by(&key(0), 2), Place::Coming(Coming { slot: 1, hops: 1, .. })));
        assert_eq!(bodies.torn(NOW, key(0), 1, &config), [Effect::Torn]);
        assert_eq!(bodies.torn(NOW, key(1), 1, &config), [Effect::Torn, Effect::Compare]);
        assert_eq!((bodies.sizes().transfers, bodies.sizes().missing), (2, 1));
        // The one who could go on with it hasn't got it after all; it isn't lost while a part of it is here.
        assert_eq!(bodies.not_held_by(NOW, &key(0), 2), Some(lost(&[], 0, false)));
    }

    #[test]
    fn without_resume_a_torn_body_is_dropped_and_its_children_are_told() {
        let (mut bodies, config) = (Bodies::default(), Config { resume: false, ..Config::default() });
        bodies.begin(key(0), transfer_to(set(&[2, 3]), 1, 0, 100), false);
        let abort = Effect::Link(set(&[2, 3]), BodyAction::Abort(part(0, 0)));
        assert_eq!(bodies.torn(NOW, key(0), 1, &config), [Effect::Torn, abort, lost(&[], 0, false), Effect::Compare]);
        assert_eq!(bodies.sizes().transfers, 0);
    }

    #[test]
    fn a_neighbour_that_goes_ends_its_transfers_both_ways() {
        let (mut bodies, config) = (Bodies::default(), Config::default());
        bodies.begin(key(0), transfer(1, 0, 100), false);
        bodies.begin(key(1), transfer_to(set(&[1]), 2, 1, 100), false);
        bodies.miss(key(2), Missing::new(&offer(1, 1), NOBODY(), NOW, false));
        let refuse = Effect::Link(set(&[1]), BodyAction::Refuse(part(0, 0)));
        let abort = Effect::Link(set(&[1]), BodyAction::Abort(part(0, 1)));
        let expected = [refuse, Effect::Torn, Effect::Compare, abort, lost(&[], 2, true)];
        assert_eq!(bodies.without(NOW, 1, true, &config), expected);
        assert_eq!(bodies.sizes().missing, 0);
    }

    #[test]
    fn what_the_window_lets_go_of_is_refused_and_given_up() {
        let mut bodies = Bodies::default();
        bodies.begin(key(0), transfer(1, 0, 100), false);
        bodies.miss(key(1), Missing::new(&offer(1, 1), NOBODY(), NOW, false));
        assert!(bodies.wants(&key(0)));
        let id = part(0, 0);
        let expected = [
            Effect::Link(set(&[1]), BodyAction::Refuse(id)),
            Effect::Link(NOBODY(), BodyAction::Abort(id)),
            lost(&[], 0, false),
            lost(&[], 1, true),
        ];
        assert_eq!(bodies.forget(TrackId(0), 1), expected);
        assert!(!bodies.wants(&key(0)));
    }

    #[test]
    fn a_publisher_supersedes_what_comes_in_and_what_is_missing() {
        let (mut bodies, config) = (Bodies::default(), Config::default());
        bodies.miss(key(0), Missing::new(&offer(1, 1), NOBODY(), NOW, false));
        assert_eq!(bodies.supersede(&key(0)), [Effect::Conflict, lost(&[], 0, false)]);
        bodies.begin(key(1), transfer(1, 1, 100), false);
        let id = part(0, 1);
        let expected = [
            Effect::Link(set(&[1]), BodyAction::Refuse(id)),
            Effect::Link(NOBODY(), BodyAction::Abort(id)),
            lost(&[], 1, false),
        ];
        assert_eq!(bodies.supersede(&key(1)), expected);
        assert!(bodies.supersede(&key(1)).is_empty());
        // A transfer's deadline goes with the last one that is complete; a dropped one's is looked at once.
        assert!(bodies.on_stall_timer(NOW + STALL, &neighbours(), &config).is_empty());
        assert_eq!(bodies.next_due(), None);
    }

    #[test]
    fn a_new_neighbour_is_offered_everything_once() {
        let mut bodies = Bodies::default();
        bodies.keep(key(0), held(0, 10), u64::MAX);
        bodies.begin(key(1), transfer(1, 1, 100), false);
        let offer: Vec<(PartId, u32)> = bodies.offer(2).iter().map(|announce| (announce.id, announce.length)).collect();
        assert_eq!(offer, [(part(0, 0), 10), (part(0, 1), 100)]);
        assert!(!bodies.is_news(&key(0), set(&[2])) && bodies.is_news(&key(0), set(&[2, 3])));
        assert_eq!(bodies.tell(NOW, &key(0), 2), None);
        assert_eq!(bodies.tell(NOW, &key(0), 3).map(|announce| announce.hops), Some(0));
        assert_eq!(bodies.tell_all(NOW, &key(1), set(&[0, 1, 2])).map(|(_, to)| to), Some(set(&[0])), "1 sends it");
    }
}
