//! Reads what people put into `OLLAMA_HOST`, as Ollama's own client does.

use std::net::{Ipv4Addr, Ipv6Addr};

/// Ollama's own port.
const DEFAULT_PORT: u16 = 11_434;

/// A text that names no endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Neither http nor https.
    #[error("{text:?} has the scheme {scheme}, only http and https are possible")]
    Scheme {
        /// What was given.
        text: String,
        /// Its scheme.
        scheme: String,
    },
    /// Not a port.
    #[error("{text:?} has the port {port:?}, which is not a number from 1 to 65535")]
    Port {
        /// What was given.
        text: String,
        /// Its port.
        port: String,
    },
    /// Not a host.
    #[error("{text:?} does not name a host")]
    Host {
        /// What was given.
        text: String,
    },
}

/// The base URL meant by `text`: `host`, `host:port`, `:port`, `[::1]:port`, with or without scheme
/// and path.
///
/// An address to listen on (`0.0.0.0`, `[::]`) becomes loopback. Without a port it is 11434, with a
/// scheme but no port 80 or 443: Ollama's own rules. A trailing `/`, `/v1` or `/api` is dropped.
pub fn base_url(text: &str) -> Result<String, HostError> {
    let trimmed = text.trim().trim_matches(['"', '\'']).trim();
    let (scheme, rest, port_if_missing) = match trimmed.split_once("://") {
        None => ("http", trimmed, DEFAULT_PORT),
        Some(("http", rest)) => ("http", rest, 80),
        Some(("https", rest)) => ("https", rest, 443),
        Some((scheme, _)) => {
            return Err(HostError::Scheme {
                text: text.into(),
                scheme: scheme.into(),
            });
        }
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = split_port(authority);
    let port = match port {
        None => port_if_missing,
        Some(digits) => match digits.parse() {
            Ok(port) if port > 0 => port,
            _ => {
                return Err(HostError::Port {
                    text: text.into(),
                    port: digits.into(),
                });
            }
        },
    };
    let host = reachable(host).ok_or_else(|| HostError::Host { text: text.into() })?;
    let path = path.trim_end_matches('/');
    let path = match path {
        "v1" | "api" => "",
        _ => path.trim_end_matches("/v1").trim_end_matches("/api"),
    };
    let slash = if path.is_empty() { "" } else { "/" };
    Ok(format!("{scheme}://{host}:{port}{slash}{path}"))
}

/// Host and port; a bare IPv6 address has no port.
fn split_port(authority: &str) -> (&str, Option<&str>) {
    if authority.parse::<Ipv6Addr>().is_ok() {
        return (authority, None);
    }
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    }
}

/// The host as it is put into a URL; `None` when it cannot be one.
fn reachable(host: &str) -> Option<String> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.is_empty() {
        return Some(Ipv4Addr::LOCALHOST.to_string());
    }
    if let Ok(address) = bare.parse::<Ipv6Addr>() {
        let address = if address.is_unspecified() {
            Ipv6Addr::LOCALHOST
        } else {
            address
        };
        return Some(format!("[{address}]"));
    }
    if let Ok(address) = bare.parse::<Ipv4Addr>() {
        let address = if address.is_unspecified() {
            Ipv4Addr::LOCALHOST
        } else {
            address
        };
        return Some(address.to_string());
    }
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    bare.chars().all(is_name).then(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_ollama_takes_is_read() {
        let cases = [
            ("", "http://127.0.0.1:11434"),
            ("gpu-2", "http://gpu-2:11434"),
            ("gpu-2:1234", "http://gpu-2:1234"),
            (":1234", "http://127.0.0.1:1234"),
            ("0.0.0.0", "http://127.0.0.1:11434"),
            ("0.0.0.0:8080", "http://127.0.0.1:8080"),
            ("[::]:8080", "http://[::1]:8080"),
            ("::1", "http://[::1]:11434"),
            ("[fe80::2]", "http://[fe80::2]:11434"),
            ("http://gpu", "http://gpu:80"),
            ("https://gpu", "https://gpu:443"),
            ("https://gpu:1/ollama/", "https://gpu:1/ollama"),
            ("http://localhost:11434/v1", "http://localhost:11434"),
            ("http://localhost:11434/api/", "http://localhost:11434"),
            (" \"gpu:1\" ", "http://gpu:1"),
        ];
        for (text, url) in cases {
            assert_eq!(base_url(text).as_deref(), Ok(url), "{text:?}");
        }
    }

    #[test]
    fn what_names_no_endpoint_is_refused_with_the_reason() {
        let cases = [
            (
                "ftp://gpu",
                "\"ftp://gpu\" has the scheme ftp, only http and https are possible",
            ),
            (
                "gpu:0",
                "\"gpu:0\" has the port \"0\", which is not a number from 1 to 65535",
            ),
            (
                "gpu:x",
                "\"gpu:x\" has the port \"x\", which is not a number from 1 to 65535",
            ),
            ("a b", "\"a b\" does not name a host"),
            ("user@gpu", "\"user@gpu\" does not name a host"),
        ];
        for (text, why) in cases {
            assert_eq!(base_url(text).unwrap_err().to_string(), why);
        }
    }
}
