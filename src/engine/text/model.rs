//! What gives the tokens of a word: byte-pair encoding over compact tables, or another kind by the `tokenizers` crate.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use tokenizers::models::{ModelWrapper, TrainerWrapper};
use tokenizers::{Model as _, Result, Token};

use super::bpe::Bpe;

/// The model of a tokenizer.
pub(super) enum Model {
    Bpe(Bpe),
    /// WordPiece, Unigram, WordLevel, and BPE with marks on a word's parts.
    Other(ModelWrapper),
}

impl Model {
    pub fn is_bpe(&self) -> bool {
        matches!(self, Self::Bpe(_) | Self::Other(ModelWrapper::BPE(_)))
    }

    /// Calls `put` with every id and its token.
    pub fn each_token<E>(
        &self,
        mut put: impl FnMut(u32, &str) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        match self {
            Self::Bpe(bpe) => bpe.vocabulary().by_id().try_for_each(|(id, token)| put(id, token)),
            Self::Other(model) => model.get_vocab().iter().try_for_each(|(token, id)| put(*id, token)),
        }
    }
}

/// The crate asks this of its own models and of others'.
impl tokenizers::Model for Model {
    type Trainer = TrainerWrapper;

    fn tokenize(&self, word: &str) -> Result<Vec<Token>> {
        match self {
            Self::Bpe(bpe) => bpe.tokenize(word),
            Self::Other(model) => model.tokenize(word),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            Self::Bpe(bpe) => bpe.vocabulary().id(token),
            Self::Other(model) => model.token_to_id(token),
        }
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        match self {
            Self::Bpe(bpe) => bpe.vocabulary().token(id).map(str::to_owned),
            Self::Other(model) => model.id_to_token(id),
        }
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        match self {
            Self::Bpe(bpe) => bpe.vocabulary().iter().map(|(token, id)| (token.to_owned(), id)).collect(),
            Self::Other(model) => model.get_vocab(),
        }
    }

    fn get_vocab_size(&self) -> usize {
        match self {
            Self::Bpe(bpe) => bpe.vocabulary().len(),
            Self::Other(model) => model.get_vocab_size(),
        }
    }

    /// Tokenizers are read here, never written.
    fn save(&self, _: &Path, _: Option<&str>) -> Result<Vec<PathBuf>> {
        Err("not written by this library".into())
    }

    /// Nor trained; the trait wants one all the same.
    fn get_trainer(&self) -> TrainerWrapper {
        match self {
            Self::Bpe(_) => TrainerWrapper::BpeTrainer(Default::default()),
            Self::Other(model) => model.get_trainer(),
        }
    }
}
