//! The smallest surroundings in which an engine can start agents.

use std::sync::Arc;

use warpsquad::core::catalogue::Catalogue;
use warpsquad::core::endpoint::{Endpoint, EndpointHealth};
use warpsquad::core::model::Model;

/// One endpoint with one model.
pub(crate) fn catalogue() -> Arc<Catalogue> {
    let model = Model {
        name: "coder:7b".into(),
        digest: "d".into(),
        size: 1,
        parameters: None,
        parameter_size: "7B".into(),
        quantisation: "Q4".into(),
        family: "f".into(),
        context_length: None,
        capabilities: [].into(),
        remote: false,
        architecture: None,
        shown: None,
    };
    let mut endpoint = Endpoint::new("http://e");
    endpoint.health = EndpointHealth::Ok;
    endpoint.models.insert(model.name.clone(), model);
    Arc::new(Catalogue {
        endpoints: [("e".into(), endpoint)].into(),
    })
}
