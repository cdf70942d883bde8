//! Text in, tokens out, and back: tokenizer, streaming detokenizer, stop strings, chat templates.
//!
//! A leaf: nothing here knows of models, backends or threads. Every type is plain data that its owner may move
//! between threads; a [`Tokenizer`] and a [`ChatTemplate`] may be used by many threads at once.

mod bpe;
mod chat_template;
mod cleanup;
mod config;
mod detokenizer;
mod file;
mod message;
mod model;
mod pieces;
mod python;
mod stop;
mod tokenizer;
mod vocabulary;

pub use chat_template::{ChatTemplate, RenderOptions};
pub use detokenizer::Detokenizer;
pub use message::Message;
pub use stop::StopMatcher;
pub use tokenizer::Tokenizer;

#[cfg(test)]
mod tests;
