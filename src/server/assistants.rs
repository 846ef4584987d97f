//! The owner's assistants: what clients may ask for by name in place of the daemon's own settings.

use serde_json::{Value, json};

use crate::session::candidates::Chosen;

/// One of them.
#[allow(missing_debug_implementations, reason = "the target holds the credential")]
pub struct Assistant {
    /// The name in `/ws?assistant=NAME`.
    pub name: String,
    /// The name for people.
    pub title: String,
    /// The session that its calls ask the service for.
    pub candidate: Chosen,
}

/// All of them.
#[derive(Default)]
#[allow(missing_debug_implementations, reason = "the targets hold the credential")]
pub struct Assistants {
    list: Vec<Assistant>,
    /// What browsers are told.
    told: String,
}

impl Assistants {
    /// These, in their order.
    #[must_use]
    pub fn new(list: Vec<Assistant>) -> Self {
        let form = |one: &Assistant| json!({ "name": one.name, "title": one.title });
        let all: Value = list.iter().map(form).collect();
        let told = if list.is_empty() { String::new() } else { all.to_string() };
        Self { list, told }
    }

    /// A JSON array of `{name, title}`; empty if there are none.
    pub(super) fn told(&self) -> &str {
        &self.told
    }

    /// The one of that name.
    pub(super) fn find(&mut self, name: &str) -> Option<&mut Chosen> {
        let one = self.list.iter_mut().find(|one| one.name == name)?;
        Some(&mut one.candidate)
    }

    pub(super) fn all(&mut self) -> impl Iterator<Item = &mut Chosen> {
        self.list.iter_mut().map(|one| &mut one.candidate)
    }

    /// A sentence for a client that asks for a name that none has. It quotes the beginning of it.
    pub(super) fn lacks(&self, name: &str) -> String {
        let shown: String = name.chars().take(64).flat_map(char::escape_debug).collect();
        let names: Vec<&str> = self.list.iter().map(|one| one.name.as_str()).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        format!("There is no assistant {shown} here. There is: {names}.")
    }
}
