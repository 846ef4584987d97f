//! Which of the servers' tools the model is offered, and by what names.

use super::file::Server;
use super::listing::Tool;

/// Longest name that the service takes, in characters.
const MAX_NAME: usize = 64;

/// A tool as the model is offered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offered {
    /// Its name for the model: `server_tool` in the service's alphabet.
    pub name: String,
    /// The server, as a place in the list that was given.
    pub server: usize,
    /// The tool, as a place in the server's list.
    pub tool: usize,
}

/// What is offered of all the servers' tools, in their order. `taken` are names that are used already.
/// Schemas, descriptions and names may have `budget` bytes together. The sentences tell what is left
/// out.
#[must_use]
#[inline(never)]
pub fn offer(
    servers: &[(&Server, &[Tool])],
    taken: &[&str],
    budget: usize,
) -> (Vec<Offered>, Vec<String>) {
    let (mut offered, mut notes): (Vec<Offered>, Vec<String>) = (Vec::new(), Vec::new());
    let (mut used, mut left_out) = (0, 0);
    // The largest of all, since leaving that one out helps most.
    let mut biggest = (0, String::new());
    for (at, (server, tools)) in servers.iter().enumerate() {
        for (place, tool) in tools.iter().enumerate().filter(|(_, tool)| wanted(server, &tool.name))
        {
            let name = name(&server.name, &tool.name);
            let same = offered.iter().any(|other| other.name == name);
            if same || taken.contains(&name.as_str()) {
                notes.push(format!(
                    "the tool {} of {} is left out: another tool is called {name}",
                    super::shown(&tool.name, 130),
                    super::shown(&server.name, 60)
                ));
                continue;
            }
            let size = name.len() + tool.description.len() + tool.parameters.to_string().len();
            if size > biggest.0 {
                biggest = (size, name.clone());
            }
            if used + size > budget {
                left_out += 1;
                continue;
            }
            used += size;
            offered.push(Offered { name, server: at, tool: place });
        }
    }
    if left_out > 0 {
        let (size, name) = biggest;
        notes.push(format!(
            "{left_out} tools are left out: all together they need more than {budget} bytes of the model's \
             attention in each turn. The biggest is {name} with {size} bytes. \"allow\" and \"deny\" choose"
        ));
    }
    (offered, notes)
}

/// Whether the owner's lists let this tool through.
fn wanted(server: &Server, tool: &str) -> bool {
    let listed = |list: &[String]| list.iter().any(|pattern| matches(pattern, tool));
    server.allow.as_deref().is_none_or(listed) && !listed(&server.deny)
}

/// `*` stands for any text.
fn matches(pattern: &str, name: &str) -> bool {
    let Some((first, mut rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    while let Some((part, behind)) = rest.split_once('*') {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
        rest = behind;
    }
    name.ends_with(rest)
}

/// `server_tool`. A name that is too long keeps its beginning and gets a number made of the whole, so
/// it means the same tool after a restart.
fn name(server: &str, tool: &str) -> String {
    let whole = format!("{server}_{tool}");
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut name: String = whole.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if name.len() > MAX_NAME {
        // FNV-1a: small, and the same on every machine.
        let step = |hash: u32, byte: u8| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
        let number = whole.bytes().fold(0x811c_9dc5, step);
        name.truncate(MAX_NAME - 9);
        name.push_str(&format!("_{number:08x}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::super::file;
    use super::*;
    use serde_json::json;

    fn tool(name: &str, size: usize) -> Tool {
        let parameters = json!({ "type": "object", "title": "x".repeat(size) });
        let (name, description) = (name.to_owned(), String::new());
        Tool { name, description, parameters, read_only: None, destructive: None }
    }

    fn servers(json: &str) -> Vec<Server> {
        let (servers, faults) = file::parse(&format!("{{\"mcpServers\": {json}}}"), &|_| None);
        assert_eq!(faults, []);
        servers
    }

    fn names(offered: &[Offered]) -> Vec<&str> {
        offered.iter().map(|offered| offered.name.as_str()).collect()
    }

    #[test]
    fn names_fit_the_services_alphabet_and_length() {
        let servers = servers(r#"{"my home": {"command": "x"}}"#);
        let long = "é".repeat(128);
        let tools = [tool("light.on", 0), tool(&long, 0), tool(&format!("{long}x"), 0)];
        let (offered, notes) = offer(&[(&servers[0], &tools)], &[], 100_000);
        assert_eq!(notes, Vec::<String>::new());
        let names = names(&offered);
        assert_eq!(names[0], "my_home_light_on");
        assert!(names[1].len() == 64 && names[2].len() == 64 && names[1] != names[2], "{names:?}");
    }

    #[test]
    fn collisions_are_told() {
        let servers = servers(r#"{"a": {"command": "x"}, "a_b": {"command": "x"}}"#);
        let (first, second) = ([tool("b_c", 0), tool("b.c", 0), tool("d", 0)], [tool("c", 0)]);
        let list = [(&servers[0], &first[..]), (&servers[1], &second[..])];
        let (offered, notes) = offer(&list, &["a_d"], 100_000);
        assert_eq!(names(&offered), ["a_b_c"]);
        assert_eq!(notes.len(), 3);
        assert!(notes[0].contains("b.c of a") && notes[1].contains("d of a"), "{notes:?}");
    }

    #[test]
    fn the_budget_leaves_out_what_does_not_fit_and_names_the_biggest() {
        let servers = servers(r#"{"a": {"command": "x"}}"#);
        let tools = [tool("s", 100), tool("big", 900), tool("t", 100)];
        let (offered, notes) = offer(&[(&servers[0], &tools)], &[], 600);
        assert_eq!(names(&offered), ["a_s", "a_t"]);
        assert!(notes.len() == 1 && notes[0].contains("biggest is a_big with 9"), "{notes:?}");
    }

    #[test]
    fn the_owners_lists_choose() {
        let servers = servers(
            r#"{"a": {"command": "x", "allow": ["get_*", "set"], "deny": ["*_secret*", "get_b"]}}"#,
        );
        let all = ["get_a", "get_b", "set", "set2", "get_secret_x", "other"];
        let tools: Vec<_> = all.iter().map(|name| tool(name, 0)).collect();
        let (offered, notes) = offer(&[(&servers[0], &tools)], &[], 100_000);
        assert_eq!((names(&offered), notes.len()), (vec!["a_get_a", "a_set"], 0));
        assert!(matches("*", "") && matches("a*c", "abc") && !matches("a*a", "a"));
    }
}
