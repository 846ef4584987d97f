//! What the child `voicelived __token` does: it reads its job, asks for one token over HTTP, or reads a
//! file, and prints the token or why there is none. It may block: nobody but the child runs this.
//!
//! Metadata services and the agent of Azure Arc are never asked through a proxy, and no redirect is
//! followed: the secret, or the token, would go elsewhere.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::CertificateDer;
use serde_json::{Value, json};
use ureq::http::Response;
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::answer::{Refusal, first_line};
use super::{MAX_OUTPUT, MAX_TOKEN, ManagedIdentityEndpoint, RESOURCE, SignIn, Source};
use crate::net::proxy::Proxy;
use crate::system::files;

/// The most bytes of a job: most of it are certificates.
const MAX_JOB: u64 = 2 * 1024 * 1024;

/// How long Entra ID may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// How long an endpoint on this machine or beside it may take. Where there is none, the network drops
/// what is sent there, so connecting has a short limit of its own.
const NEAR: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

/// The only folder from which the key of Azure Arc's agent is taken.
const ARC_KEYS: &str = "/var/opt/azcmagent/tokens";

/// Longest key of Azure Arc's agent, in bytes.
const MAX_ARC_KEY: usize = 4096;

/// The child's job as JSON. It holds the secret.
#[must_use]
pub fn job(sign_in: &SignIn) -> String {
    let source = match &sign_in.source {
        Source::Command(_) => json!({}),
        Source::File(path) => json!({ "file": path }),
        Source::Principal { authority, tenant, client, secret } => {
            json!({ "authority": authority, "tenant": tenant, "client": client, "secret": secret })
        }
        Source::Workload { authority, tenant, client, file } => {
            json!({ "authority": authority, "tenant": tenant, "client": client, "assertion": file })
        }
        Source::Managed { client, place } => {
            let (kind, endpoint, header) = match place {
                ManagedIdentityEndpoint::Metadata(address) => ("metadata", address, None),
                ManagedIdentityEndpoint::App { endpoint, header } => {
                    ("app", endpoint, Some(header))
                }
                ManagedIdentityEndpoint::Arc(endpoint) => ("arc", endpoint, None),
            };
            json!({ "managed": kind, "endpoint": endpoint, "header": header, "client": client })
        }
    };
    let proxy = sign_in.proxy.as_ref().map(|proxy| [proxy.expose(), proxy.variable.clone()]);
    let authorities: Vec<_> = sign_in.authorities.iter().map(|it| STANDARD.encode(it)).collect();
    json!({ "source": source, "proxy": proxy, "authorities": authorities }).to_string()
}

/// The sign-in that a job tells of; `None` if it is no job.
fn sign_in(job: &Value) -> Option<SignIn> {
    let source = &job["source"];
    let text = |name: &str| source[name].as_str().map(str::to_owned);
    let source = if let Some(path) = text("file") {
        Source::File(path.into())
    } else if let Some(kind) = text("managed") {
        let endpoint = text("endpoint")?;
        let place = match kind.as_str() {
            "app" => ManagedIdentityEndpoint::App { endpoint, header: text("header")? },
            "arc" => ManagedIdentityEndpoint::Arc(endpoint),
            _ => ManagedIdentityEndpoint::Metadata(endpoint),
        };
        Source::Managed { client: text("client"), place }
    } else {
        let (authority, tenant, client) = (text("authority")?, text("tenant")?, text("client")?);
        match text("assertion") {
            Some(file) => Source::Workload { authority, tenant, client, file: file.into() },
            None => Source::Principal { authority, tenant, client, secret: text("secret")? },
        }
    };
    let proxy = match (&job["proxy"][0], &job["proxy"][1]) {
        (Value::String(address), Value::String(variable)) => Proxy::parse(address, variable).ok(),
        _ => None,
    };
    let authorities = job["authorities"].as_array()?.iter();
    let authorities = authorities.filter_map(|it| STANDARD.decode(it.as_str()?).ok());
    Some(SignIn { source, proxy, authorities: authorities.map(CertificateDer::from).collect() })
}

/// The whole child: reads the job, fetches, and gives back what is to be printed.
pub fn run(input: &mut dyn Read) -> String {
    let mut text = String::new();
    let read = input.take(MAX_JOB).read_to_string(&mut text).ok();
    let job = read.and_then(|_| serde_json::from_str::<Value>(&text).ok());
    let Some(sign_in) = job.as_ref().and_then(sign_in) else {
        return refusal(&Refusal::lasting("the job cannot be read"));
    };
    match fetch(&sign_in) {
        Ok(answer) => answer,
        Err(why) => refusal(&why),
    }
}

fn refusal(Refusal { why, retry }: &Refusal) -> String {
    json!({ "error": why, "retry": retry }).to_string()
}

fn fetch(sign_in: &SignIn) -> Result<String, Refusal> {
    match &sign_in.source {
        Source::Command(_) => Err(Refusal::lasting("a command runs by itself")),
        Source::File(path) => Ok(read_text(path, MAX_TOKEN)?.trim().to_owned()),
        Source::Principal { authority, tenant, client, secret } => {
            let own = [("client_secret", secret.as_str())];
            exchange(sign_in, authority, tenant, client, &own, secret)
        }
        Source::Workload { authority, tenant, client, file } => {
            let assertion = read_text(file, MAX_TOKEN)?;
            let assertion = assertion.trim();
            let kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
            let own = [("client_assertion_type", kind), ("client_assertion", assertion)];
            exchange(sign_in, authority, tenant, client, &own, assertion)
        }
        Source::Managed { client, place } => managed(place, client.as_deref()),
    }
}

/// A client's credentials against a token (RFC 6749, section 4.4).
fn exchange(
    sign_in: &SignIn,
    authority: &str,
    tenant: &str,
    client: &str,
    own: &[(&str, &str)],
    secret: &str,
) -> Result<String, Refusal> {
    let url = format!("{authority}/{tenant}/oauth2/v2.0/token");
    let scope = format!("{RESOURCE}/.default");
    let mut form =
        vec![("client_id", client), ("grant_type", "client_credentials"), ("scope", &scope)];
    form.extend(own);
    let send = |roots: RootCerts| {
        let proxy = sign_in.proxy.as_ref().map(|proxy| ureq::Proxy::new(&proxy.expose()));
        let proxy = proxy.transpose()?;
        let config = Agent::config_builder()
            .proxy(proxy)
            .timeout_global(Some(PATIENCE))
            .tls_config(TlsConfig::builder().root_certs(roots).build());
        agent(config).post(&url).send_form(form.iter().copied())
    };
    let mut answer = send(RootCerts::WebPki);
    // The library takes either Mozilla's authorities or others, not both.
    if answer.as_ref().is_err_and(is_untrusted) && !sign_in.authorities.is_empty() {
        let own = sign_in.authorities.iter().map(|it| Certificate::from_der(it).to_owned());
        answer = send(RootCerts::from(own.collect::<Vec<_>>()));
    }
    let place = authority.split("//").last().unwrap_or(authority);
    let answer = answer.map_err(|error| unreachable(place, sign_in.proxy.as_ref(), &error))?;
    judge(answer, place, &[secret]).map_err(|(_, refusal)| refusal)
}

fn managed(place: &ManagedIdentityEndpoint, client: Option<&str>) -> Result<String, Refusal> {
    let (endpoint, version) = match place {
        ManagedIdentityEndpoint::Metadata(address) => {
            (format!("{address}/metadata/identity/oauth2/token"), "2018-02-01")
        }
        ManagedIdentityEndpoint::App { endpoint, .. } => (endpoint.clone(), "2019-08-01"),
        ManagedIdentityEndpoint::Arc(endpoint) => (endpoint.clone(), "2020-06-01"),
    };
    let ask = |name: &str, value: &str, more: Option<&str>| {
        let config = Agent::config_builder()
            .proxy(None)
            .timeout_connect(Some(NEAR.0))
            .timeout_global(Some(NEAR.1));
        let mut request = agent(config)
            .get(&endpoint)
            .query("api-version", version)
            .query("resource", RESOURCE)
            .header(name, value);
        if let Some(client) = client {
            request = request.query("client_id", client);
        }
        if let Some(login) = more {
            request = request.header("Authorization", login);
        }
        request.call().map_err(|error| unreachable("the managed identity's endpoint", None, &error))
    };
    let (answer, secret) = match place {
        ManagedIdentityEndpoint::Metadata(_) => (ask("Metadata", "true", None)?, String::new()),
        ManagedIdentityEndpoint::App { header, .. } => {
            (ask("X-IDENTITY-HEADER", header, None)?, header.clone())
        }
        ManagedIdentityEndpoint::Arc(_) => {
            let key = arc_key(&ask("Metadata", "true", None)?)?;
            (ask("Metadata", "true", Some(&format!("Basic {key}")))?, key)
        }
    };
    let text = judge(answer, "the managed identity's endpoint", &[&secret]).map_err(explain)?;
    // Old agents of Azure Arc do not know `client_id`, and answer for the machine's own identity.
    let told: Value = serde_json::from_str(&text).unwrap_or_default();
    let (asked, told) =
        (client.unwrap_or_default(), told["client_id"].as_str().unwrap_or_default());
    if !asked.is_empty() && !told.is_empty() && !asked.eq_ignore_ascii_case(told) {
        return Err(Refusal::lasting(format!(
            "the answer is for the identity {}, not for AZURE_CLIENT_ID",
            first_line(told)
        )));
    }
    Ok(text)
}

/// What the statuses of a metadata service mean.
fn explain((status, refusal): (u16, Refusal)) -> Refusal {
    let (hint, retry) = match status {
        400 => {
            ("no identity is assigned to this machine, or AZURE_CLIENT_ID names none of its", false)
        }
        403 => ("it is not reached from here, as in a container without a way to it", false),
        404 | 410 | 429 => ("it is not ready", true),
        _ => ("", refusal.retry),
    };
    let why = if hint.is_empty() { refusal.why } else { format!("{}: {hint}", refusal.why) };
    Refusal { why, retry }
}

/// The key that Azure Arc's agent has put into a file which only its group may read.
fn arc_key(answer: &Response<Body>) -> Result<String, Refusal> {
    if answer.status().as_u16() != 401 {
        let status = answer.status().as_u16();
        return Err(Refusal::lasting(format!(
            "the agent of Azure Arc answered {status} and not with the name of its key"
        )));
    }
    let field = answer.headers().get("www-authenticate").and_then(|value| value.to_str().ok());
    let path = field.and_then(|field| field.strip_prefix("Basic realm="));
    let path = PathBuf::from(path.unwrap_or_default().trim_matches('"'));
    let inside = path.parent() == Some(Path::new(ARC_KEYS));
    if !inside || path.extension().is_none_or(|extension| extension != "key") {
        return Err(Refusal::lasting(format!(
            "the agent of Azure Arc names a key that is not in {ARC_KEYS}"
        )));
    }
    let known = fs::symlink_metadata(&path).is_ok_and(|it| it.is_file());
    if !known {
        return Err(Refusal::lasting(format!(
            "{} cannot be read; the daemon's user must be in the group himds",
            path.display()
        )));
    }
    read_text(&path, MAX_ARC_KEY)
}

fn agent(config: ureq::config::ConfigBuilder<ureq::typestate::AgentScope>) -> Agent {
    config
        .max_redirects(0)
        .max_redirects_will_error(false)
        .http_status_as_error(false)
        .user_agent(concat!("voicelived/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// The text of a success, or the status and why there is none. The secrets are in no sentence.
fn judge(
    mut answer: Response<Body>,
    place: &str,
    secrets: &[&str],
) -> Result<String, (u16, Refusal)> {
    let status = answer.status().as_u16();
    let text = answer.body_mut().with_config().limit(MAX_OUTPUT as u64).read_to_string();
    let text = text.map_err(|error| (status, unreachable(place, None, &error)))?;
    if status == 200 {
        return Ok(text);
    }
    let json: Value = serde_json::from_str(&text).unwrap_or_default();
    let said = ["error_description", "message", "error"].iter().find_map(|it| json[*it].as_str());
    let mut said = first_line(said.unwrap_or_default());
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        said = said.replace(secret, "***");
    }
    let colon = if said.is_empty() { "" } else { ": " };
    let why = format!("{place} answered {status}{colon}{said}");
    Err((status, Refusal { why, retry: status == 429 || status >= 500 }))
}

fn is_untrusted(error: &ureq::Error) -> bool {
    let text = error.to_string();
    matches!(error, ureq::Error::Rustls(_) | ureq::Error::Tls(_)) || text.contains("certificate")
}

/// Entra ID, the proxy before it, or the local endpoint is not reached.
fn unreachable(place: &str, proxy: Option<&Proxy>, error: &ureq::Error) -> Refusal {
    let through = proxy.map(|proxy| format!(" through the proxy {proxy}")).unwrap_or_default();
    let what = match error {
        ureq::Error::HostNotFound => "its name was not found".to_owned(),
        ureq::Error::Timeout(_) => "it does not answer in time".to_owned(),
        ureq::Error::ConnectProxyFailed(status) => format!("the proxy answered: {}", first_line(status)),
        other if is_untrusted(other) => {
            "its certificate is not trusted; if it is a proxy's, VOICELIVED_UPSTREAM_CA_FILE names its authority".to_owned()
        }
        other => first_line(&other.to_string()),
    };
    let what = proxy.map_or_else(|| what.clone(), |proxy| proxy.conceal(&what));
    Refusal { why: format!("{place} is not reached{through}: {what}"), retry: !is_untrusted(error) }
}

fn read_text(path: &Path, max: usize) -> Result<String, Refusal> {
    let name = path.display().to_string();
    let name = name.escape_debug();
    let bytes = files::read(path, max)
        .map_err(|error| Refusal::passing(format!("{name} cannot be read: {error}")))?;
    String::from_utf8(bytes).map_err(|_| Refusal::lasting(format!("{name} is not UTF-8 text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_says_all_that_the_child_needs() {
        let text = |text: &str| text.to_owned();
        let authority = text("https://login.microsoftonline.com");
        let (tenant, client) = (text("t"), text("c"));
        for source in [
            Source::File("/x".into()),
            Source::Principal {
                authority: authority.clone(),
                tenant: tenant.clone(),
                client: client.clone(),
                secret: text("s"),
            },
            Source::Workload { authority, tenant, client, file: "/y".into() },
            Source::Managed {
                client: None,
                place: ManagedIdentityEndpoint::Metadata(text("http://m")),
            },
            Source::Managed {
                client: Some(text("c")),
                place: ManagedIdentityEndpoint::Arc(text("http://a")),
            },
            Source::Managed {
                client: None,
                place: ManagedIdentityEndpoint::App {
                    endpoint: text("http://e"),
                    header: text("h"),
                },
            },
        ] {
            let proxy = Proxy::parse("http://u:p%40@h:1", "HTTPS_PROXY").ok();
            let authorities = vec![CertificateDer::from(vec![1, 2, 3])];
            let all = SignIn { source, proxy, authorities };
            let read = sign_in(&serde_json::from_str(&job(&all)).unwrap()).unwrap();
            assert!(read == all, "{all:?}");
        }
        assert!(run(&mut "nonsense".as_bytes()).contains("the job cannot be read"));
    }
}
