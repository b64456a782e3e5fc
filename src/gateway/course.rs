//! The course of one request: placed, queued, sent, perhaps sent elsewhere, answered.
//!
//! Dropping the future or the body it returned gives the request up wherever it is: the place in
//! the queue, the slot, the connection upstream. A load that others wait for goes on, because loads
//! are made on connections of our own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::{Answer, Next, Patience};
use super::ask::{Ask, Delivery, Pins};
use super::conductor::{Placed, Placement, Released, Request, Ticket, root_cause};
use super::record::Record;
use super::reply::{self, Form};
use super::serve::Gateway;
use super::upstream::Passing;
use crate::core::failure::{Failure, Remedy};
use crate::core::served::Outcome;
use crate::core::traffic::{Bond, Traffic, Work};

/// Header that tells how a request went.
const ROUTE: &str = "x-warpsquad-route";

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    /// What its requests are counted under.
    pub(super) client: String,
    /// What an agent is bound to; none for other clients.
    pub(super) bond: Option<Bond>,
    pub(super) work: Work,
    pub(super) traffic: Option<watch::Sender<Traffic>>,
    /// Cancelled when it may not ask any more.
    pub(super) gone: CancellationToken,
}

/// One request on its way.
pub(super) struct Course {
    gateway: Arc<Gateway>,
    caller: Caller,
    ask: Ask,
    request: Request,
    record: Record,
    /// Endpoints that have failed it.
    avoid: BTreeSet<crate::core::endpoint::EndpointName>,
    /// Failures that count: an endpoint that takes no connection, or is busy, has not been tried.
    failures: u32,
    /// How often an endpoint was busy.
    busy: u32,
    /// How long it has waited for an endpoint that may be asked.
    waited: Duration,
    /// The first failure that was not the model's own: an answer of nothing after it is no verdict
    /// on the model, which was not asked as often as it should.
    blame: Option<String>,
}

/// What a failed try leads to.
enum Onward {
    /// Try again after this.
    Again(Duration),
    /// It is over.
    Over(Response),
}

/// Serves one request.
pub(super) async fn serve(gateway: Arc<Gateway>, caller: Caller, ask: Ask) -> Response {
    if let Some(bare) = ask.bare {
        return reply::bare(ask.shape, &ask.model, bare);
    }
    if let Some(verdict) = gateway.verdict_of(&caller.client, ask.hash) {
        let status = StatusCode::from_u16(verdict.status).unwrap_or(StatusCode::BAD_GATEWAY);
        return reply::refusal(Some(ask.shape), status, &verdict.text);
    }
    let gone = caller.gone.clone();
    let course = Course::begin(gateway, caller, ask);
    tokio::select! {
        biased;
        // The agent is gone: nobody reads an answer.
        () = gone.cancelled() => reply::refusal(None, StatusCode::FORBIDDEN, "this agent is gone"),
        response = course.run() => response,
    }
}

impl Course {
    fn begin(gateway: Arc<Gateway>, caller: Caller, ask: Ask) -> Self {
        let request = gateway.conductor.request(&caller, &ask);
        let record = gateway.record(&caller, &ask, &request);
        Self {
            gateway,
            caller,
            ask,
            request,
            record,
            avoid: BTreeSet::new(),
            failures: 0,
            busy: 0,
            waited: Duration::ZERO,
            blame: None,
        }
    }

    async fn run(mut self) -> Response {
        let upstream = self.gateway.upstream.clone();
        self.gateway.conductor.refresh(&upstream).await;
        loop {
            let placed = match self.gateway.conductor.place(&self.request, &self.avoid) {
                Placement::Go(placed) => placed,
                Placement::Wait(pause, why) => {
                    if self.waited >= self.gateway.settings.patience {
                        return self.verdict(&why);
                    }
                    self.wait(pause, &why).await;
                    continue;
                }
                Placement::Never(why) => return self.refused(&why),
            };
            let mut ticket = self.gateway.conductor.enter(&self.request, &placed);
            let tried = match ticket.released(&self.record).await {
                Ok(released) => self.attempt(&placed, &released, &mut ticket).await,
                Err(failure) => Err(failure),
            };
            let failure = match tried {
                Ok(answer) => return self.answered(answer, ticket, &placed).await,
                Err(failure) if placed.remote => failure.of_remote(),
                Err(failure) => failure,
            };
            ticket.failed(&failure);
            match self.onward(&placed, &failure) {
                Onward::Again(pause) => tokio::time::sleep(pause).await,
                Onward::Over(response) => return response,
            }
        }
    }

    /// Waits until an endpoint may be asked, or something has changed.
    async fn wait(&mut self, pause: Duration, why: &str) {
        self.record.trouble(why);
        self.avoid.clear();
        let begun = Instant::now();
        self.gateway.conductor.changed_within(pause).await;
        self.waited += begun.elapsed();
    }

    /// Sends it and waits for the beginning of its answer.
    async fn attempt(
        &mut self,
        placed: &Placed,
        released: &Released,
        ticket: &mut Ticket,
    ) -> Result<Begun, Failure> {
        self.note(placed, released);
        self.record.send();
        let pins = Pins {
            model: placed.runner.model.as_str(),
            context: placed.runner.context,
            num_predict: placed.num_predict,
            think: placed.think,
        };
        let passing = Passing {
            url: format!("{}{}", placed.url, self.ask.shape.path()),
            body: self.ask.write(&pins),
        };
        let patience = self.gateway.conductor.patience(placed, &self.request);
        let asked = tokio::time::timeout(patience.first, self.gateway.upstream.ask(passing));
        let answer = asked
            .await
            .map_err(|_elapsed| Failure::stalled(patience.first))?
            .map_err(|error| Failure::transport(&root_cause(&error)))?;
        if !answer.status.is_success() {
            return Err(refusal_of(answer.status, &answer.headers, answer.body.boxed()).await);
        }
        let mut answer = Answer::new(answer.body.boxed(), self.caller.gone.clone());
        ticket.answering();
        let thinks = placed.think == Some(true);
        answer.begin(patience, thinks).await?;
        if self.ask.delivery == Delivery::Streamed {
            return Ok(Begun::Stream(answer, patience));
        }
        let record = &mut self.record;
        let whole = answer.collect(patience.gap, || record.piece()).await?;
        Ok(Begun::Whole(Box::new(whole), answer))
    }

    /// What is known of the request now that it is placed.
    fn note(&mut self, placed: &Placed, released: &Released) {
        let waited = self.record.waited_us();
        let served = &mut self.record.served;
        served.endpoint = placed.runner.endpoint.clone();
        served.model = placed.runner.model.clone();
        served.digest.clone_from(&placed.digest);
        served.context = placed.runner.context;
        served.epoch = released.epoch;
        if let Some(swap) = &released.swap {
            // It may have begun before the request came.
            served.load_us = (served.load_us + swap.took_us).min(waited);
            served.swap = Some(swap.clone());
        }
    }

    /// The answer in the client's shape; what is left of it is passed on as it comes.
    async fn answered(mut self, begun: Begun, ticket: Ticket, placed: &Placed) -> Response {
        let id = self.record.served.id;
        let form = Form::new(self.ask.shape, id, &self.ask.model);
        let route = self.route(placed);
        let mut response = match begun {
            Begun::Whole(whole, answer) => {
                let (all, end, last) = *whole;
                self.record.figures(&end);
                ticket.finished(&mut self.record, &end);
                self.record.end(outcome(&end));
                answer.close().await;
                form.whole(&all, &end, &last)
            }
            Begun::Stream(answer, patience) => {
                let content_type = form.content_type();
                let passage = Passage {
                    patience,
                    form,
                    open: Some((answer, self.record, ticket)),
                    over: None,
                };
                reply::streamed(content_type, Body::from_stream(passage.stream()))
            }
        };
        if let Ok(value) = HeaderValue::from_str(&route) {
            response.headers_mut().insert(ROUTE, value);
        }
        response
    }

    fn route(&self, placed: &Placed) -> String {
        let served = &self.record.served;
        format!(
            "endpoint={}; model={}; context={}; queue_ms={}; load_ms={}; tries={}; why={}",
            placed.runner.endpoint,
            placed.runner.model,
            placed.runner.context,
            served.queue_us / 1_000,
            served.load_us / 1_000,
            served.tries,
            placed.why,
        )
    }

    /// What becomes of it after a failed try.
    fn onward(&mut self, placed: &Placed, failure: &Failure) -> Onward {
        tracing::info!(
            endpoint = %placed.runner.endpoint, model = %placed.runner.model, why = %failure.why,
            "a request failed before its first byte"
        );
        self.record.trouble(&failure.why);
        if failure.remedy() == Remedy::AskCatalogue {
            self.gateway.want_look();
        }
        match failure.remedy() {
            Remedy::Refuse => return Onward::Over(self.final_word(failure)),
            Remedy::Wait => {
                self.busy += 1;
                let conductor = &self.gateway.conductor;
                conductor.rest(placed, failure.retry_after, self.busy);
                // Elsewhere at once; here when it has rested.
                return Onward::Again(Duration::ZERO);
            }
            Remedy::LargerContext => {
                let counted = failure.prompt_tokens;
                let conductor = &self.gateway.conductor;
                if !conductor.too_long(&mut self.request, placed, counted) {
                    return Onward::Over(self.final_word(failure));
                }
            }
            Remedy::AskCatalogue | Remedy::OtherModel | Remedy::RetryElsewhere => {
                self.avoid.insert(placed.runner.endpoint.clone());
            }
            Remedy::SmallerContext => {
                if !self.request.shrink(placed) {
                    return Onward::Over(self.final_word(failure));
                }
            }
            Remedy::RetrySame => {}
        }
        if !failure.is_of_the_model() {
            self.blame.get_or_insert_with(|| failure.why.clone());
        }
        self.failures += u32::from(!failure.is_unreachable());
        match self.gateway.conductor.retry(self.failures) {
            Some(pause) => Onward::Again(pause),
            // An endpoint that takes no connection has not been tried: its breaker decides.
            None if failure.is_unreachable() => Onward::Again(Duration::from_secs(1)),
            None => {
                let why = self.blame.take().unwrap_or_else(|| failure.why.clone());
                Onward::Over(self.verdict_now(StatusCode::BAD_GATEWAY, &why))
            }
        }
    }

    /// Refused for good, without a word of an endpoint.
    fn refused(self, why: &str) -> Response {
        let status = StatusCode::BAD_REQUEST;
        let client = &self.caller.client;
        let text = self.gateway.remember(client, self.ask.hash, (status, why));
        let why = why.to_owned();
        self.record.end(Outcome::Refused { why });
        reply::refusal(Some(self.ask.shape), status, &text)
    }

    fn verdict(mut self, why: &str) -> Response {
        let response = self.verdict_now(StatusCode::BAD_GATEWAY, why);
        drop(self);
        response
    }

    /// The endpoint's refusal; a client of the web asks again after a 502, so its own mistake is a 400.
    fn final_word(&mut self, failure: &Failure) -> Response {
        let status = if failure.is_of_the_request() {
            StatusCode::BAD_REQUEST
        } else {
            StatusCode::BAD_GATEWAY
        };
        self.verdict_now(status, &failure.why)
    }

    /// Failed for good: the client is told so in words that make Aider stop asking.
    fn verdict_now(&mut self, status: StatusCode, why: &str) -> Response {
        let client = &self.caller.client;
        let text = self.gateway.remember(client, self.ask.hash, (status, why));
        self.record.conclude(Outcome::Failed { why: why.into() });
        reply::refusal(Some(self.ask.shape), status, &text)
    }
}

/// An answer whose beginning is here.
enum Begun {
    Stream(Answer, Patience),
    Whole(
        Box<(super::lines::Piece, super::lines::End, super::lines::Line)>,
        Answer,
    ),
}

/// The rest of an answer, passed on line by line.
struct Passage {
    patience: Patience,
    form: Form,
    /// Taken at the end; dropped before it when the client goes away.
    open: Option<(Answer, Record, Ticket)>,
    /// An answer whose last line was passed on.
    over: Option<Answer>,
}

impl Passage {
    fn stream(self) -> impl futures_util::Stream<Item = Result<Bytes, std::convert::Infallible>> {
        futures_util::stream::unfold(self, |mut passage| async move {
            let bytes = passage.next().await?;
            Some((Ok(bytes), passage))
        })
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let Some((answer, record, _)) = self.open.as_mut() else {
                self.over.take()?.close().await;
                return None;
            };
            match answer.next(self.patience.gap).await {
                Next::Line(line) => {
                    record.piece();
                    let bytes = self.form.line(line);
                    if !bytes.is_empty() {
                        return Some(bytes);
                    }
                }
                Next::Last(line, end) => {
                    let (answer, mut record, ticket) = self.open.take()?;
                    record.figures(&end);
                    ticket.finished(&mut record, &end);
                    record.end(outcome(&end));
                    self.over = Some(answer);
                    return Some(self.form.last(line, &end));
                }
                Next::Broken(failure) => {
                    let (_, record, ticket) = self.open.take()?;
                    ticket.failed(&failure);
                    let why = failure.why.clone();
                    tracing::info!(%why, "an answer broke off");
                    record.end(Outcome::Broken { why: why.clone() });
                    return Some(self.form.broken(&why));
                }
                Next::Gone => {
                    self.open = None;
                    return None;
                }
            }
        }
    }
}

fn outcome(end: &super::lines::End) -> Outcome {
    if end.reason == "length" {
        Outcome::Length
    } else {
        Outcome::Done
    }
}

/// What an endpoint's refusal means; of its body only the beginning is read.
async fn refusal_of(
    status: StatusCode,
    headers: &axum::http::HeaderMap,
    mut body: super::answer::Body,
) -> Failure {
    const MOST: usize = 64 << 10;
    const WITHIN: Duration = Duration::from_secs(5);
    let mut text = Vec::new();
    let reading = async {
        while let Some(Ok(bytes)) = body.next().await {
            text.extend_from_slice(&bytes);
            if text.len() > MOST {
                break;
            }
        }
    };
    // The status alone says enough.
    let _elapsed = tokio::time::timeout(WITHIN, reading).await;
    let retry_after = headers
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    Failure::status(
        status.as_u16(),
        &String::from_utf8_lossy(&text),
        retry_after,
    )
}
