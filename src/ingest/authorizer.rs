//! Who may publish: the one point that every push passes, whatever its protocol.

use super::hook::Hook;
use super::keys::Keys;
use super::publish_request::{BoxFuture, Denied, PublishRequest};

/// The one point that every publish passes.
pub trait Authorizer: Send + Sync + 'static {
    /// Lets a publish through, or says why not.
    fn authorize(&self, request: PublishRequest) -> BoxFuture<'_, Result<(), Denied>>;
}

/// Lets everybody publish.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn authorize(&self, _: PublishRequest) -> BoxFuture<'_, Result<(), Denied>> {
        Box::pin(async { Ok(()) })
    }
}

/// Lets through what both the keys and the hook let through.
#[derive(Debug)]
pub struct KeysThenHook {
    /// Asked first.
    pub keys: Keys,
    /// Asked then.
    pub hook: Option<Hook>,
}

impl Authorizer for KeysThenHook {
    fn authorize(&self, request: PublishRequest) -> BoxFuture<'_, Result<(), Denied>> {
        Box::pin(async move {
            self.keys.authorize(&request).await?;
            let Some(hook) = self.hook.as_ref().filter(|_| request.protocol != "file") else { return Ok(()) };
            let asked = hook.ask(&request).await;
            if let Err(denied) = &asked {
                self.keys.refused(&request, denied).await;
            }
            asked
        })
    }
}
