//! Folders with tools of an owner's, and `voicelived tools`.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A folder with tools, of the test's own.
pub(crate) struct Folder(pub(crate) PathBuf);

/// What `voicelived tools` did.
pub(crate) struct Told {
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
            .join(format!("tools-{}-{name}", std::process::id()));
        drop(fs::remove_dir_all(&path));
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    pub(crate) fn with(self, name: &str, text: &str) -> Self {
        self.write(name, text);
        self
    }

    /// The examples of the repository.
    pub(crate) fn with_examples(self) -> Self {
        let examples = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/tools");
        for entry in fs::read_dir(examples).expect("they are there").flatten() {
            fs::copy(entry.path(), self.0.join(entry.file_name())).expect("a copy");
        }
        self
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.0.join(name), text).expect("a file");
    }

    /// Puts a text in place of another in a file.
    pub(crate) fn change(&self, name: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.0.join(name)).expect("it is there");
        assert!(text.contains(old), "{name} has no {old}");
        self.write(name, &text.replace(old, new));
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    /// `voicelived tools` with this folder.
    pub(crate) fn tools(&self, arguments: &[&str]) -> Told {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voicelived"));
        command.args(["tools", "--dir", self.path()]).args(arguments);
        command.env("CREDENTIALS_DIRECTORY", &self.0).current_dir(&self.0);
        let done = command.output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Told { code: done.status.code(), output: text(&done.stdout), errors: text(&done.stderr) }
    }

    /// What the model gets of a run that goes well.
    pub(crate) fn result(&self, name: &str, arguments: &str) -> String {
        let told = self.tools(&["run", name, arguments]);
        assert_eq!(told.code, Some(0), "{name}: {}{}", told.output, told.errors);
        told.output.trim_end().to_owned()
    }

    /// What the model gets of a run that fails.
    pub(crate) fn failure(&self, name: &str, arguments: &str) -> String {
        let told = self.tools(&["run", name, arguments]);
        assert_eq!(told.code, Some(1), "{name}: {}{}", told.output, told.errors);
        let output: serde_json::Value = serde_json::from_str(&told.output).expect("JSON");
        output["error"].as_str().expect("an error").to_owned()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// A web service that answers each request by a function of its text. It keeps what it was asked.
pub(crate) struct WebService {
    pub(crate) address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl WebService {
    pub(crate) fn new(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let request = read_request(&mut stream);
                    kept.lock().expect("no panic").push(request.clone());
                    let answer = answer(&request);
                    // An empty answer means none: it stays silent.
                    if answer.is_empty() {
                        std::thread::sleep(std::time::Duration::from_secs(60));
                    }
                    drop(stream.write_all(&answer));
                });
            }
        });
        Self { address, asked }
    }

    /// One that answers everything with this JSON.
    pub(crate) fn json(body: &str) -> Self {
        let answer = ok("application/json", body);
        Self::new(move |_| answer.clone())
    }

    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("no panic").clone()
    }
}

pub(crate) fn ok(kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}")
        .into_bytes()
}

fn read_request(stream: &mut std::net::TcpStream) -> String {
    let (mut text, mut chunk) = (Vec::new(), [0; 4096]);
    loop {
        let have = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = have.split_once("\r\n\r\n") {
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.and_then(|length| length.trim().parse().ok()).unwrap_or(0_usize);
            if body.len() >= length {
                return have;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return have,
            Ok(count) => text.extend_from_slice(&chunk[..count]),
        }
    }
}
