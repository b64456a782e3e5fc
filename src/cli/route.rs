//! `warpsquad route …`: what a recorded log of requests would have cost in another order of
//! service, or with models chosen by another strategy.

use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Route, RouteReplay};
use super::context::Context;
use super::report::Report;
use super::request_log::{Read, read};
use super::words::{ORDERS, OrderOfService, order_of_service};
use crate::core::dispatch::DispatchSettings;
use crate::core::dispatch::simulation::{
    Log, Machine, Machines, Outcome, Strategy, Workload, run as simulate,
};
use crate::core::router;
use crate::core::router::replay::{Capacity, History};

pub(super) fn run(context: &mut Context, asked: &Route) -> Result<(), Report> {
    match asked {
        Route::Replay(options) => replay(context, options),
    }
}

fn replay(context: &mut Context, options: &RouteReplay) -> Result<(), Report> {
    let Read { log, skipped } = read(&options.log)?;
    let replay = Replay::new(&log, options);
    let workload = &replay.workload;
    let rows: Vec<Row> = orders(options, &replay)
        .into_iter()
        .map(|order| replay.row(order))
        .collect();
    if options.json {
        let mut document = document(&log, workload, &rows);
        document["skipped"] = skipped.into();
        context.out.json(&document);
        return Ok(());
    }
    if let Some(text) = left_out(skipped) {
        context.out.line(&text);
    }
    context.out.line(&head(&log, workload));
    let mut table = vec![columns()];
    table.extend(rows.iter().map(row));
    context.out.table(&table);
    Ok(())
}

/// Those that were asked for, else all; strategies of the router only where the log has a choice.
fn orders(options: &RouteReplay, replay: &Replay<'_>) -> Vec<OrderOfService> {
    if !options.strategy.is_empty() {
        return options.strategy.clone();
    }
    let routed: &[&str] = if replay.history.has_choice() {
        &router::Strategy::WORDS
    } else {
        &[]
    };
    let words = ORDERS.iter().chain(routed);
    words
        .filter_map(|word| order_of_service(word).ok())
        .collect()
}

/// A log and what is known of the machines that served it.
struct Replay<'a> {
    log: &'a Log,
    history: History<'a>,
    machines: Machines,
    workload: Workload,
    seed: u64,
}

/// One line of the comparison.
struct Row {
    name: String,
    outcome: Outcome,
    /// Attempts that succeed; none where the log knows no attempts.
    successes: Option<f64>,
    /// Attempts that get another model.
    moved: usize,
    attempts: usize,
}

impl<'a> Replay<'a> {
    fn new(log: &'a Log, options: &RouteReplay) -> Self {
        let machines = Machines {
            slots: options.slots,
            room: options.room,
            load: options.load,
        };
        Self {
            log,
            history: History::of(log.requests()),
            machines,
            workload: log.workload(machines),
            seed: options.seed,
        }
    }

    fn row(&self, order: OrderOfService) -> Row {
        let attempts = self.history.attempts();
        let as_recorded = (self.history.successes() as f64, 0);
        let (outcome, (successes, moved)) = match order {
            OrderOfService::Recorded => (self.log.recorded(), as_recorded),
            OrderOfService::Simulated(strategy) => {
                (simulate(&self.workload, strategy), as_recorded)
            }
            OrderOfService::Routed(strategy) => self.routed(strategy),
        };
        Row {
            name: name(order),
            outcome,
            successes: (attempts > 0).then_some(successes),
            moved,
            attempts,
        }
    }

    fn routed(&self, strategy: router::Strategy) -> (Outcome, (f64, usize)) {
        let capacities = self.workload.machines.iter().map(|machine| {
            let Machine { slots, room, .. } = *machine;
            (machine.endpoint.clone(), Capacity { slots, room })
        });
        let rerouted = self
            .history
            .reroute(strategy, self.seed, &capacities.collect());
        let log = Log::new(rerouted.requests);
        let workload = self.log.workload_of(&log, self.machines);
        let quantum = Strategy::Quantum(DispatchSettings::default().quantum);
        let outcome = simulate(&workload, quantum);
        (outcome, (rerouted.successes, rerouted.moved))
    }
}

fn name(order: OrderOfService) -> String {
    match order {
        OrderOfService::Recorded => "recorded".to_owned(),
        OrderOfService::Simulated(Strategy::UnpinnedFifo) => "unpinned-fifo".to_owned(),
        OrderOfService::Simulated(Strategy::Fifo) => "fifo".to_owned(),
        OrderOfService::Simulated(Strategy::Collate) => "collate".to_owned(),
        OrderOfService::Simulated(Strategy::Quantum(quantum)) => format!("quantum-{quantum}"),
        OrderOfService::Routed(strategy) => strategy.as_str().to_owned(),
    }
}

fn head(log: &Log, workload: &Workload) -> String {
    let machines = workload.machines.iter().map(|machine| {
        let (slots, room) = (machine.slots, machine.room);
        format!("{}: slots {slots}, room for {room}", machine.endpoint)
    });
    let machines: Vec<String> = machines.collect();
    format!(
        "{} requests of {} clients for {} models; {}",
        log.len(),
        workload.scripts.len(),
        workload.models.len(),
        machines.join("; ")
    )
}

/// Lines that a killed server may have torn.
fn left_out(lines: usize) -> Option<String> {
    match lines {
        0 => None,
        1 => Some("1 line skipped: it is no request of the gateway".to_owned()),
        lines => Some(format!(
            "{lines} lines skipped: they are no requests of the gateway"
        )),
    }
}

fn columns() -> Vec<String> {
    let columns = [
        "ORDER", "MAKESPAN", "WAIT P50", "P95", "P99", "LONGEST", "SWAPS", "SWAPPING", "SUCCESS",
        "MOVED",
    ];
    columns.map(str::to_owned).to_vec()
}

fn row(row: &Row) -> Vec<String> {
    let outcome = &row.outcome;
    let share = |successes: f64| format!("{:.0} %", 100.0 * successes / row.attempts as f64);
    let wait = |part| seconds(outcome.wait(part));
    vec![
        row.name.clone(),
        seconds(outcome.makespan),
        wait(0.5),
        wait(0.95),
        wait(0.99),
        wait(1.0),
        outcome.swaps.to_string(),
        seconds(outcome.swapping),
        row.successes.map_or_else(|| "–".to_owned(), share),
        row.moved.to_string(),
    ]
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn document(log: &Log, workload: &Workload, rows: &[Row]) -> Value {
    let machines = workload.machines.iter().map(|machine| {
        json!({
            "endpoint": machine.endpoint,
            "slots": machine.slots,
            "room": machine.room,
        })
    });
    let orders = rows.iter().map(|row| {
        let outcome = &row.outcome;
        json!({
            "strategy": row.name,
            "attempts": row.attempts,
            "successes": row.successes,
            "moved": row.moved,
            "requests": outcome.answers(),
            "makespan_ms": millis(outcome.makespan),
            "wait_ms": {
                "p50": millis(outcome.wait(0.5)),
                "p95": millis(outcome.wait(0.95)),
                "p99": millis(outcome.wait(0.99)),
                "max": millis(outcome.wait(1.0)),
            },
            "swaps": outcome.swaps,
            "swapping_ms": millis(outcome.swapping),
        })
    });
    json!({
        "requests": log.len(),
        "machines": machines.collect::<Vec<_>>(),
        "strategies": orders.collect::<Vec<_>>(),
    })
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::request_log::parse;

    const LINE: &str = r#"{"id": 1, "at": 0, "client": "agent-1", "model": "m:7b",
        "endpoint": "gpu", "total_us": 5000000, "outcome": {"ended": "done"}}"#;

    fn options() -> RouteReplay {
        RouteReplay {
            log: "log".into(),
            seed: 1,
            strategy: Vec::new(),
            slots: None,
            room: None,
            load: None,
            json: false,
        }
    }

    #[test]
    fn every_order_of_service_serves_the_whole_log() {
        let text = LINE.replace('\n', " ");
        let Read { log, .. } = parse(text.as_bytes(), "log").unwrap();
        let options = options();
        let replay = Replay::new(&log, &options);
        for word in ORDERS.iter().chain(&router::Strategy::WORDS) {
            let row = replay.row(order_of_service(word).unwrap());
            assert_eq!(row.outcome.answers(), 1, "{word}");
            assert!(row.name.starts_with(word));
            assert_eq!((row.moved, row.successes), (0, None), "it has no attempt");
        }
        // With one place there is nothing to compare the router's strategies by.
        assert_eq!(orders(&options, &replay).len(), ORDERS.len());
        assert_eq!(
            order_of_service("quantum-8").map(name),
            Ok("quantum-8".to_owned())
        );
        assert!(order_of_service("quantum-0").is_err());
        assert!(order_of_service("fastest").unwrap_err().contains("collate"));
    }
    /// Two attempts at two models; `field` is absurd in the first.
    fn absurd(field: &str, number: u64) -> Log {
        let each = |id: u64, model: &str| {
            json!({
                "id": id, "at": id, "client": "agent-1", "task": id, "attempt": 1,
                "model": model, "endpoint": "gpu", "queue_us": 1_000, "total_us": 5_000_000,
                "prompt_tokens": 1_000, "output_tokens": 100, "prefill_us": 100_000,
                "decode_us": 1_000_000, "swap": {"evicted": null, "took_us": 2_000_000},
                "outcome": {"ended": "done"},
            })
        };
        let (mut first, second) = (each(1, "small:3b"), each(2, "big:32b"));
        match field {
            "took_us" => first["swap"][field] = number.into(),
            _ => first[field] = number.into(),
        }
        let requests = [first, second].map(|it| serde_json::from_value(it).unwrap());
        Log::new(requests.to_vec())
    }

    #[test]
    fn absurd_numbers_stop_no_replay() {
        let fields = [
            "at",
            "queue_us",
            "total_us",
            "prefill_us",
            "decode_us",
            "slot_wait_us",
            "prompt_tokens",
            "cached_tokens",
            "output_tokens",
            "took_us",
        ];
        for field in fields {
            for number in [1 << 63, u64::MAX] {
                let log = absurd(field, number);
                let replay = Replay::new(&log, &options());
                for word in ORDERS.iter().chain(&router::Strategy::WORDS) {
                    let row = replay.row(order_of_service(word).unwrap());
                    assert_eq!(row.outcome.answers(), 2, "{field} {number} {word}");
                }
            }
        }
    }

    #[test]
    fn lines_that_were_skipped_are_told_of() {
        assert_eq!(left_out(0), None);
        assert!(left_out(1).unwrap().starts_with("1 line "));
        assert!(left_out(2).unwrap().starts_with("2 lines "));
    }
}
