//! What the node keeps for seeking back, and what it asks others for.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::error::NodeError;
use crate::dvr;
use crate::edge::Store;
use crate::mesh::{AskFault, Mesh};
use crate::observe::Metrics;
use damson_core::model::Peer;

/// How often a node tells what it keeps: three times until it is taken for dead, as the directory's entries.
const KEPT_INTERVAL: Duration = Duration::from_secs(5);

/// Opens what is kept for seeking back.
pub(super) fn keeper(settings: dvr::Settings, metrics: &Arc<Metrics>) -> Result<Arc<dvr::Keeper>, NodeError> {
    let failed = |dir: &Path| {
        let dir = dir.to_owned();
        move |source| NodeError::Dvr { dir, source }
    };
    let dir = settings.disk.as_ref().map(|(dir, _)| dir.clone()).unwrap_or_default();
    let disk = match &settings.disk {
        Some(_) => Some(dvr::disk::Disk::new(Box::new(dvr::disk::Folder::open(&dir).map_err(failed(&dir))?))),
        None => None,
    };
    dvr::Keeper::start(settings, disk, Arc::clone(metrics)).map_err(failed(&dir))
}

/// Lets `store` ask other nodes, and tells them what this one keeps.
pub(super) fn start(
    mesh: &Arc<Mesh>,
    store: &Arc<Store>,
    metrics: &Arc<Metrics>,
    (tasks, stop): (&TaskTracker, &CancellationToken),
) {
    let fetcher = dvr::Fetcher::new(Box::new(ByMesh(Arc::clone(mesh))), Arc::clone(metrics));
    store.fetch_by(Arc::clone(&fetcher));
    tasks.spawn(stop.clone().run_until_cancelled_owned(fetcher.drive()));
    tasks.spawn(stop.clone().run_until_cancelled_owned(tell_kept(Arc::clone(mesh), Arc::clone(store))));
}

/// What is asked of other nodes goes through the mesh.
struct ByMesh(Arc<Mesh>);

impl dvr::Far for ByMesh {
    fn ask(&self, whom: Peer, question: Bytes, max: usize, progress: Box<dyn FnMut() + Send>) -> dvr::Answering<'_> {
        Box::pin(async move {
            self.0.ask(whom, question, max, progress).await.map_err(|fault| match fault {
                AskFault::NotHere => dvr::Refusal::NotHere,
                AskFault::Busy => dvr::Refusal::Busy,
                fault => dvr::Refusal::Failed(fault.to_string()),
            })
        })
    }
}

/// Tells the other nodes what this one keeps.
async fn tell_kept(mesh: Arc<Mesh>, store: Arc<Store>) {
    let mut each = tokio::time::interval(KEPT_INTERVAL);
    loop {
        each.tick().await;
        let kept = store.kept_here();
        if !kept.is_empty() {
            mesh.keep(kept);
        }
    }
}
