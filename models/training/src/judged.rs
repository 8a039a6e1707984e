//! Trained models beside the other allocators.
//!
//! **Knows:** model files that were written here.
//! **Promises:** what is compared is the network in the file, by our own forward pass, which ONNX Runtime follows to the last bits
//! (`tests/scoring.rs`): so the same table comes out where there is no ONNX Runtime.
//! **Gives up:** training; nothing of what is judged on is in `course`.

use std::sync::Arc;

use models::features::{Columns, FeatureSet, Shown};
use policies::allocation::learned::{Chooser, Observation};
use policies::residency::Lending;
use simulator::comparisons::lending::Contender;
use vocabulary::Resources;

use crate::school::Kind;
use crate::{Mlp, NotOurs, read_model};

/// The best option by a network.
pub struct ByNetwork {
    network: Arc<Mlp>,
    set: &'static FeatureSet,
    columns: Columns,
    shown: Shown,
}

impl ByNetwork {
    /// Of a network for these features.
    pub fn new(network: Arc<Mlp>, set: &'static FeatureSet) -> Self {
        Self { network, set, columns: set.columns(), shown: Shown::default() }
    }
}

impl Chooser for ByNetwork {
    fn choose(&mut self, observation: &Observation, options: &[Resources]) -> Option<usize> {
        self.set.show(observation, options, &mut self.shown);
        models::highest(&self.network.forward(&self.columns.scaled(&self.shown)))
    }
}

/// The allocator of this kind with the model in these bytes.
pub fn contender(kind: Kind, model: &[u8], lending: Lending) -> Result<Contender, NotOurs> {
    let (network, names) = read_model(model)?;
    let set = kind.features();
    if names != set.columns().names() {
        return Err(NotOurs(format!("its features are '{}'", names.join(","))));
    }
    let network = Arc::new(network);
    let make = move || kind.allocators()(Box::new(ByNetwork::new(network.clone(), set)), lending);
    Ok(Contender { name: kind.name().to_owned(), lending, safeguarded: true, allocator: Arc::new(make) })
}

/// Ours with hard and elastic ceilings; Freyr's, which gives nothing back, as published.
pub fn contenders(ours: Option<&[u8]>, freyr: Option<&[u8]>) -> Result<Vec<Contender>, NotOurs> {
    let mut all = Vec::new();
    if let Some(model) = freyr {
        all.push(contender(Kind::Freyr, model, Lending::Off)?);
    }
    if let Some(model) = ours {
        for lending in [Lending::Hard, Lending::Elastic] {
            all.push(contender(Kind::Learned, model, lending)?);
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_bytes;

    #[test]
    fn a_model_is_taken_for_the_kind_that_it_was_trained_for_only() {
        let set = Kind::Freyr.features();
        let model = model_bytes(&Mlp::seeded(&[set.len(), 4, 1], 1), &set.columns());
        let made = contender(Kind::Freyr, &model, Lending::Off).unwrap();
        assert_eq!(((made.allocator)().name(), made.name.as_str()), ("freyr", "freyr"));
        assert!(contender(Kind::Learned, &model, Lending::Off).is_err());
        assert_eq!(contenders(None, Some(&model)).unwrap().len(), 1);
    }
}
