//! One look at one endpoint.

use std::collections::{BTreeMap, HashMap};

use futures_util::StreamExt as _;

use crate::core::Timestamp;
use crate::core::endpoint::{Endpoint, EndpointHealth};
use crate::core::settings::{DiscoverySettings, EndpointSettings};
use crate::ollama::wire::{Show, TaggedModel};
use crate::ollama::{Client, OllamaError, model_from, residency_from};

/// Questions for details at a time: a server with a hundred models is known within a second.
const AT_A_TIME: usize = 8;

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
        self.show(&client, &tags.models).await;
        let model_of = |tagged: &TaggedModel| {
            let model = model_from(tagged, self.shown.get(&tagged.digest));
            (model.name.clone(), model)
        };
        let models: BTreeMap<_, _> = tags.models.iter().map(model_of).collect();
        Ok(Endpoint {
            url: self.last.url.clone(),
            version: Some(version),
            health: EndpointHealth::Ok,
            seen_at: Some(now()),
            models,
            resident: running.models.iter().map(residency_from).collect(),
        })
    }

    /// Asks for the details of every model that was not shown yet: once for each digest, a few at a
    /// time. A model that cannot be shown stays as far unknown; the next look asks again.
    async fn show(&mut self, client: &Client, models: &[TaggedModel]) {
        self.shown
            .retain(|digest, _| models.iter().any(|model| model.digest == *digest));
        let mut asked = BTreeMap::new();
        for model in models {
            if !self.shown.contains_key(&model.digest) && model.remote_host.is_none() {
                asked.insert(model.digest.clone(), model.name.clone());
            }
        }
        let question = |(digest, name)| details(client.clone(), digest, name);
        let answers: Vec<_> = asked.into_iter().map(question).collect();
        let answers = futures_util::stream::iter(answers).buffer_unordered(AT_A_TIME);
        let shown: Vec<_> = answers.collect().await;
        self.shown.extend(shown.into_iter().flatten());
    }
}

/// The details of one model, by its digest; without the list of its tensors, which is long.
async fn details(client: Client, digest: String, name: String) -> Option<(String, Show)> {
    let mut show = client.show(&name).await.ok()?;
    show.tensors = Vec::new();
    Some((digest, show))
}

fn now() -> Timestamp {
    Timestamp(u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0))
}
