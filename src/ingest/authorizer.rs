//! Authorisation: every push passes here, whatever its protocol.

use super::hook::Hook;
use super::keys::Keys;
use super::publish_request::{BoxFuture, Denied, PublishRequest};

/// Decides whether a push is allowed.
pub trait Authorizer: Send + Sync + 'static {
    /// Allows a push, or says why not.
    fn authorize(&self, request: PublishRequest) -> BoxFuture<'_, Result<(), Denied>>;
}

/// Allows a push that both the keys and the hook allow; by default every push.
#[derive(Debug, Default)]
pub struct KeysThenHook {
    /// The publish keys, which are asked first.
    pub keys: Keys,
    /// The `on_publish` hook, which is asked second.
    pub hook: Option<Hook>,
}

impl Authorizer for KeysThenHook {
    fn authorize(&self, request: PublishRequest) -> BoxFuture<'_, Result<(), Denied>> {
        Box::pin(async move {
            self.keys.authorize(&request).await?;
            let Some(hook) = self.hook.as_ref().filter(|_| request.protocol != "file") else { return Ok(()) };
            let answer = hook.ask(&request).await;
            if let Err(denied) = &answer {
                self.keys.refused(&request, denied).await;
            }
            answer
        })
    }
}
