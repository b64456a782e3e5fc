//! Addresses of Ollama servers, written as people write them.
//!
//! `OLLAMA_HOST` is read as Ollama's own client reads it: the scheme defaults to `http`, the port
//! to 11434, to 80 behind an explicit `http://` and to 443 behind `https://`. An address that only
//! a server can listen on (`0.0.0.0`, `::`) means this machine.

/// Port of an address without scheme and port.
const DEFAULT_PORT: u16 = 11_434;

/// Why an address was not understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing but a scheme, or nothing at all.
    #[error("it names no host")]
    NoHost,
    /// Neither http nor https.
    #[error("only http and https are spoken")]
    Scheme,
    /// Not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
    /// Blanks or control characters.
    #[error("it holds a character that no address has")]
    Character,
}

/// The base URL that `text` means, without a slash at its end.
pub fn normalise(text: &str) -> Result<String, AddressError> {
    let text = text.trim().trim_matches(['"', '\'']).trim();
    let (scheme, rest, default_port) = match text.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => ("http", rest, 80),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => ("https", rest, 443),
        Some(_) => return Err(AddressError::Scheme),
        None => ("http", text, DEFAULT_PORT),
    };
    let bad = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '?' | '#' | '"' | '<');
    if rest.contains(bad) {
        return Err(AddressError::Character);
    }
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (host, port) = host_and_port(authority, default_port)?;
    let host = match host {
        "0.0.0.0" | "*" => "127.0.0.1",
        "[::]" => "[::1]",
        host => host,
    };
    let path = path.trim_matches('/');
    let slash = if path.is_empty() { "" } else { "/" };
    Ok(format!("{scheme}://{host}:{port}{slash}{path}"))
}

fn host_and_port(authority: &str, default_port: u16) -> Result<(&str, u16), AddressError> {
    // `[::1]:11434` has colons inside the brackets; `::1` alone is a host without a port.
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') || host.ends_with(']') => (host, Some(port)),
        _ => (authority, None),
    };
    if host.contains(':') && !(host.starts_with('[') && host.ends_with(']')) {
        return Err(AddressError::Character);
    }
    let port = match port {
        None | Some("") => default_port,
        Some(digits) => digits
            .parse::<u16>()
            .ok()
            .filter(|port| *port > 0)
            .ok_or(AddressError::Port)?,
    };
    match host {
        "" if authority.is_empty() => Err(AddressError::NoHost),
        "" => Ok(("127.0.0.1", port)),
        host => Ok((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_ollamas_own_client_reads_it() {
        for (text, url) in [
            ("127.0.0.1", "http://127.0.0.1:11434"),
            ("gpu-2:9", "http://gpu-2:9"),
            (":9", "http://127.0.0.1:9"),
            ("0.0.0.0:11434", "http://127.0.0.1:11434"),
            ("http://gpu-2", "http://gpu-2:80"),
            ("HTTPS://gpu-2/ollama/", "https://gpu-2:443/ollama"),
            ("\"[::1]:5\"", "http://[::1]:5"),
            ("[::1]", "http://[::1]:11434"),
        ] {
            assert_eq!(normalise(text), Ok(url.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_the_reason() {
        for (text, error) in [
            ("", AddressError::NoHost),
            ("ftp://x", AddressError::Scheme),
            ("x:0", AddressError::Port),
            ("x:port", AddressError::Port),
            ("a b", AddressError::Character),
            ("fe80::1", AddressError::Character),
        ] {
            assert_eq!(normalise(text), Err(error), "{text}");
        }
    }
}
