//! `warpsquad`: the dashboard on this terminal; the squad is started if none runs.

use std::path::Path;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::{Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::api::wire::ATTACH;
use crate::cli::client::block_on;
use crate::cli::{Context, Exit, Report, start};
use crate::tui::client;
use crate::tui::wire::{ClientHello, ExitReason};

/// Why no dashboard is shown.
enum Trouble {
    /// A server that is being replaced: the next one answers.
    Passing(Report),
    /// Trying again does not help.
    Lasting(Report),
}

/// Attaches until the user detaches or the squad stops; a server that is replaced is found again.
///
/// # Errors
/// The squad cannot be started or reached, or the terminal cannot be used.
pub fn attach(context: &mut Context) -> Result<Exit, Report> {
    context.load(None)?;
    let places = context.places()?;
    let global = context.global.clone();
    let reason = block_on(async {
        let mut deadline = Instant::now() + start::AWAY;
        loop {
            start::ensure(&places, &global).await?;
            match once(&places.socket).await {
                Ok(ExitReason::ConnectionLost) => deadline = Instant::now() + start::AWAY,
                Ok(reason) => return Ok(reason),
                Err(Trouble::Passing(_)) if Instant::now() < deadline => {
                    sleep(start::PAUSE).await;
                }
                Err(Trouble::Passing(report) | Trouble::Lasting(report)) => return Err(report),
            }
        }
    })?;
    context.out.line(&reason.to_string());
    Ok(Exit::Done)
}

/// One dashboard over one connection.
async fn once(socket: &Path) -> Result<ExitReason, Trouble> {
    let lost = |error: &dyn std::error::Error| {
        Trouble::Passing(
            Report::unavailable(format!("the squad does not answer: {error}"))
                .hint("'warpsquad status' tells more"),
        )
    };
    let stream = match UnixStream::connect(socket).await {
        Ok(stream) => stream,
        Err(error) => return Err(lost(&error)),
    };
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| lost(&error))?;
    let mut driving = JoinSet::new();
    driving.spawn(connection.with_upgrades());
    let request = Request::post("/v1/attach")
        .header(header::HOST, "squad")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, ATTACH)
        .body(Empty::<Bytes>::new())
        .map_err(|error| Trouble::Lasting(Report::internal(error.to_string())))?;
    let answer = sender
        .send_request(request)
        .await
        .map_err(|error| lost(&error))?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = answer.status();
        return Err(Trouble::Lasting(
            Report::unavailable(format!("the squad refused the dashboard ({status})"))
                .hint("its version may differ: 'warpsquad stop', then start it again"),
        ));
    }
    let upgraded = hyper::upgrade::on(answer)
        .await
        .map_err(|error| lost(&error))?;
    client::attach(TokioIo::new(upgraded), ClientHello::detect())
        .await
        .map_err(|error| {
            Trouble::Lasting(
                Report::unavailable(format!("the dashboard ended: {error}"))
                    .hint("work goes on; attach again with 'warpsquad'"),
            )
        })
}
