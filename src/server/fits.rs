//! What fits into the memory of GPUs, told to the engine before it is told of a model.
//!
//! The engine chooses a model in the step in which it learns of one, so what comes later is too
//! late for the first task after a start.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::core::catalogue::Catalogue;
use crate::core::router::Fits;
use crate::engine::{EngineHandle, EngineStopped, Input};
use crate::gateway::Gateway;

/// The gateway's knowledge on its way to the engine.
pub(super) struct Fitting {
    gateway: Arc<Gateway>,
    engine: EngineHandle,
    told: Mutex<Fits>,
}

impl Fitting {
    pub(super) fn new(gateway: Arc<Gateway>, engine: EngineHandle) -> Arc<Self> {
        Arc::new(Self {
            gateway,
            engine,
            told: Mutex::default(),
        })
    }

    /// Tells the engine what of this catalogue fits, if it does not know.
    pub(super) async fn tell(&self, catalogue: &Catalogue) -> Result<(), EngineStopped> {
        // Held while the engine is told, so that the last to be told is what is remembered.
        let mut told = self.told.lock().await;
        let fits = self.gateway.fits(catalogue);
        if *told != fits {
            self.engine
                .report(Input::Fits(Arc::new(fits.clone())))
                .await?;
            *told = fits;
        }
        Ok(())
    }
}
