//! Which token may use which endpoint. A token is worth nothing once its agent is gone.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::core::traffic::Traffic;

/// What a token allows.
#[derive(Debug, Clone)]
pub struct Grant {
    /// Base URL of the endpoint, without a trailing slash.
    pub url: String,
    /// Where its traffic is published.
    pub traffic: watch::Sender<Traffic>,
}

/// All tokens in force.
#[derive(Debug, Clone, Default)]
pub struct Grants {
    by_token: Arc<RwLock<HashMap<String, Grant>>>,
}

impl Grants {
    /// Puts a token in force; the receiver tells what it does.
    pub fn admit(&self, token: &str, url: &str) -> watch::Receiver<Traffic> {
        let (traffic, seen) = watch::channel(Traffic::default());
        let grant = Grant {
            url: url.trim_end_matches('/').to_owned(),
            traffic,
        };
        self.by_token
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(token.to_owned(), grant);
        seen
    }

    /// Makes a token worthless.
    pub fn revoke(&self, token: &str) {
        self.by_token
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(token);
    }

    /// What `token` allows.
    pub fn get(&self, token: &str) -> Option<Grant> {
        self.by_token
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(token)
            .cloned()
    }
}
