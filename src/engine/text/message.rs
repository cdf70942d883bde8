//! One turn of a conversation.

use serde_json::{Map, Value};

use crate::engine::error::{Result, error, fail};

/// One turn of a conversation: a JSON object with at least a `role`, handed to the chat template as it is, so that
/// whatever a template reads (`tool_calls`, `reasoning_content`, `name`, content in parts) can be given.
#[derive(Clone, Debug, PartialEq)]
pub struct Message(Map<String, Value>);

impl Message {
    /// A turn of plain text.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        let mut fields = Map::new();
        fields.insert("role".into(), Value::String(role.into()));
        fields.insert("content".into(), Value::String(content.into()));
        Self(fields)
    }

    /// A turn from JSON. Errors (`Argument`): not an object, no `role`, a role that is no string.
    pub fn from_value(value: Value) -> Result<Self> {
        match value {
            Value::Object(fields) => match fields.get("role") {
                Some(Value::String(_)) => Ok(Self(fields)),
                Some(_) => fail!(Argument, "message: role: a string is needed"),
                None => fail!(Argument, "message: role is missing"),
            },
            _ => fail!(Argument, "message: a JSON object is needed"),
        }
    }

    /// A conversation from a JSON array of objects. Errors (`Argument`) name the place.
    pub fn list_from_json(json: &str) -> Result<Vec<Self>> {
        let list: Vec<Value> = serde_json::from_str(json).map_err(|e| error!(Argument, "messages: {e}"))?;
        list.into_iter()
            .enumerate()
            .map(|(at, value)| Self::from_value(value).map_err(|e| e.at(format_args!("messages[{at}]"))))
            .collect()
    }

    /// The same turn with one more field, or another value in it.
    pub fn with(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.0.insert(key.into(), value.into());
        self
    }

    /// Who speaks.
    pub fn role(&self) -> &str {
        self.0.get("role").and_then(Value::as_str).unwrap_or_default()
    }

    /// What is said: a string, a list of parts, null, or nothing where the turn only calls tools.
    pub fn content(&self) -> Option<&Value> {
        self.0.get("content")
    }

    /// Every field, in order.
    pub fn fields(&self) -> &Map<String, Value> {
        &self.0
    }
}
