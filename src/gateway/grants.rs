//! Which token may ask for what. A token is worth nothing once its agent is gone: its open
//! requests end with it, so nothing generates for nobody.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::core::AgentSlot;
use crate::core::traffic::{Bond, Traffic, Work};

/// What a token allows.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) bond: Bond,
    pub(super) work: Work,
    /// Where its traffic is published.
    pub(super) traffic: watch::Sender<Traffic>,
    /// Cancelled when the token is void.
    pub(super) gone: CancellationToken,
}

/// All tokens in force.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    by_token: Arc<RwLock<HashMap<String, Grant>>>,
}

impl Grants {
    /// Puts a token in force; the receiver tells what it does.
    ///
    /// A token that is in force already keeps what it works on and its open requests.
    pub fn admit(&self, token: &str, bond: Bond) -> watch::Receiver<Traffic> {
        let mut tokens = self
            .by_token
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(grant) = tokens.get_mut(token) {
            grant.bond = bond;
            return grant.traffic.subscribe();
        }
        let (traffic, seen) = watch::channel(Traffic::default());
        let grant = Grant {
            bond,
            work: Work::default(),
            traffic,
            gone: CancellationToken::new(),
        };
        tokens.insert(token.to_owned(), grant);
        seen
    }

    /// Says what the agent of a token works on.
    pub fn assign(&self, token: &str, work: Work) {
        let mut tokens = self
            .by_token
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(grant) = tokens.get_mut(token) {
            grant.work = work;
        }
    }

    /// Makes a token worthless and ends its open requests.
    pub fn revoke(&self, token: &str) {
        let removed = self
            .by_token
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(token);
        if let Some(grant) = removed {
            grant.gone.cancel();
        }
    }

    /// The client that works in a slot.
    pub(super) fn client_of(&self, agent: AgentSlot) -> Option<String> {
        let tokens = self.by_token.read().unwrap_or_else(PoisonError::into_inner);
        tokens
            .values()
            .find(|grant| grant.work.agent == Some(agent))
            .map(|grant| grant.bond.client.clone())
    }

    /// What `token` allows.
    pub(super) fn get(&self, token: &str) -> Option<Grant> {
        self.by_token
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bond(context: u32) -> Bond {
        Bond {
            client: "agent-1-1".into(),
            endpoint: "local".into(),
            model: "coder:7b".into(),
            context,
            thinks: false,
        }
    }

    #[test]
    fn a_token_that_is_revoked_ends_what_is_open_and_is_forgotten() {
        let grants = Grants::default();
        let seen = grants.admit("t", bond(8_192));
        let grant = grants.get("t").unwrap();
        grants.revoke("t");
        assert!(grant.gone.is_cancelled());
        assert!(grants.get("t").is_none());
        drop(grant);
        assert!(seen.has_changed().is_err(), "nobody publishes any more");
    }

    #[test]
    fn a_token_admitted_again_keeps_its_work_and_its_readers() {
        let grants = Grants::default();
        let seen = grants.admit("t", bond(8_192));
        let work = Work {
            attempt: 3,
            ..Work::default()
        };
        grants.assign("t", work);
        drop(grants.admit("t", bond(16_384)));
        let grant = grants.get("t").unwrap();
        assert_eq!((grant.work, grant.bond.context), (work, 16_384));
        assert!(seen.has_changed().is_ok());
    }
}
