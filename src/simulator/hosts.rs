//! The names by which a server on a loopback address answers: a page of the web, which has another
//! name in its requests, gets 403 without a body.

use std::net::{IpAddr, SocketAddr};

use axum::extract::Request;
use axum::http::StatusCode;
use axum::http::header::HOST;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

/// Endings of names that are this machine or its network, as Ollama lists them.
const LOCAL: [&str; 3] = [".localhost", ".local", ".internal"];

/// Lets a request through whose `Host` is this machine or its network.
pub(super) async fn local_only(request: Request, next: Next) -> Response {
    let host = request
        .headers()
        .get(HOST)
        .map(|host| host.to_str().unwrap_or("?"));
    if is_local(host.unwrap_or_default()) {
        next.run(request).await
    } else {
        StatusCode::FORBIDDEN.into_response()
    }
}

fn is_local(host: &str) -> bool {
    let address = host.parse::<SocketAddr>().map(|address| address.ip());
    let address = address.or_else(|_| host.trim_matches(['[', ']']).parse::<IpAddr>());
    match address {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_private() || ip.is_unspecified(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unique_local() || ip.is_unspecified(),
        Err(_name) => {
            let name = host
                .split(':')
                .next()
                .unwrap_or_default()
                .to_ascii_lowercase();
            name.is_empty() || name == "localhost" || LOCAL.iter().any(|end| name.ends_with(end))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_local;

    #[test]
    fn this_machine_and_its_network_are_local_and_the_web_is_not() {
        for host in [
            "",
            "localhost",
            "LOCALHOST:11434",
            "127.0.0.1:11434",
            "[::1]:11434",
            "::1",
            "192.168.1.4",
            "0.0.0.0:1",
            "box.local:8080",
        ] {
            assert!(is_local(host), "{host}");
        }
        for host in [
            "example.com",
            "example.com:11434",
            "8.8.8.8:53",
            "notlocal",
            "x.local.evil.org",
        ] {
            assert!(!is_local(host), "{host}");
        }
    }
}
