//! Why a node cannot go on.
//!
//! Promises: the first reason is kept for whoever asks, however late; nobody waits who tells one.

use tokio::sync::watch;

/// Where it is told and waited for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Failed(watch::Sender<Option<String>>);

impl Failed {
    /// The node cannot go on.
    pub(crate) fn tell(&self, reason: String) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            first.get_or_insert(reason);
            is_first
        });
    }

    /// Waits until it cannot.
    pub(crate) fn wait(&self) -> impl Future<Output = String> + Send + use<> {
        let failed = self.clone();
        async move {
            let mut told = failed.0.subscribe();
            let told = told.wait_for(Option::is_some).await;
            let reason = told.expect("a sender is held here");
            reason.clone().unwrap_or_default()
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn the_first_reason_is_told_to_all() {
        let failed = Failed::default();
        let early = failed.wait();
        assert_eq!(failed.wait().now_or_never(), None);
        failed.tell("the disk".to_owned());
        failed.tell("what followed".to_owned());
        assert_eq!(early.await, "the disk");
        assert_eq!(failed.wait().await, "the disk");
    }
}
