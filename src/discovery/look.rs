//! One look at one endpoint.

use std::collections::{BTreeMap, HashMap};

use crate::core::Timestamp;
use crate::core::endpoint::{Endpoint, EndpointHealth};
use crate::core::settings::{DiscoverySettings, EndpointSettings};
use crate::ollama::wire::{Show, TaggedModel};
use crate::ollama::{Client, OllamaError, model_from, residency_from};

/// Looks at one endpoint and remembers what does not change between looks.
#[derive(Debug)]
pub struct Looker {
    client: Result<Client, String>,
    shown: HashMap<String, Show>,
    last: Endpoint,
}

impl Looker {
    /// A looker that has not looked yet. A URL that cannot be used shows in every look.
    pub fn new(endpoint: &EndpointSettings, settings: &DiscoverySettings) -> Self {
        let client = Client::new(&endpoint.url, settings.timeout);
        Self {
            client: client.map_err(|error| error.to_string()),
            shown: HashMap::new(),
            last: Endpoint::new(&endpoint.url),
        }
    }

    /// Asks the endpoint. Never fails: what cannot be asked is unknown.
    pub async fn look(&mut self) -> Endpoint {
        match self.ask().await {
            Ok(endpoint) => self.last = endpoint,
            Err(why) => self.last.health = EndpointHealth::Unknown { why },
        }
        self.last.clone()
    }

    async fn ask(&mut self) -> Result<Endpoint, String> {
        let client = self.client.clone()?;
        let text = |error: OllamaError| error.to_string();
        let (version, tags, running) =
            tokio::try_join!(client.version(), client.tags(), client.running()).map_err(text)?;
        let mut models = BTreeMap::new();
        for tagged in &tags.models {
            let show = self.show(&client, tagged).await;
            let model = model_from(tagged, show);
            models.insert(model.name.clone(), model);
        }
        self.shown
            .retain(|digest, _| tags.models.iter().any(|model| model.digest == *digest));
        Ok(Endpoint {
            url: self.last.url.clone(),
            version: Some(version),
            health: EndpointHealth::Ok,
            seen_at: Some(now()),
            models,
            resident: running.models.iter().map(residency_from).collect(),
        })
    }

    /// Details of a model that the list leaves out (servers before 0.32), asked once per digest.
    async fn show(&mut self, client: &Client, tagged: &TaggedModel) -> Option<&Show> {
        if tagged.capabilities.is_some() && tagged.details.context_length.is_some() {
            return None;
        }
        if !self.shown.contains_key(&tagged.digest) {
            // A model that cannot be shown stays as far unknown; the next look asks again.
            let show = client.show(&tagged.name).await.ok()?;
            self.shown.insert(tagged.digest.clone(), show);
        }
        self.shown.get(&tagged.digest)
    }
}

fn now() -> Timestamp {
    Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}
