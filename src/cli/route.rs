//! `warpsquad route …`: what a recorded log of requests would have cost in another order of
//! service.

use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use super::args::{Route, RouteReplay};
use super::context::Context;
use super::report::Report;
use super::words::{ORDERS, OrderOfService, order_of_service};
use crate::core::dispatch::simulation::{
    Log, Machines, Outcome, Strategy, Workload, run as simulate,
};
use crate::core::served::Served;

pub(super) fn run(context: &mut Context, asked: &Route) -> Result<(), Report> {
    match asked {
        Route::Replay(options) => replay(context, options),
    }
}

fn replay(context: &mut Context, options: &RouteReplay) -> Result<(), Report> {
    let log = read(&options.log)?;
    let workload = log.workload(Machines {
        slots: options.slots,
        room: options.room,
        load: options.load,
    });
    let rows: Vec<(String, Outcome)> = orders(options)
        .into_iter()
        .map(|order| (name(order), outcome(order, &log, &workload)))
        .collect();
    if options.json {
        context.out.json(&document(&log, &workload, &rows));
        return Ok(());
    }
    context.out.line(&head(&log, &workload));
    let mut table = vec![columns()];
    table.extend(rows.iter().map(|(name, outcome)| row(name, outcome)));
    context.out.table(&table);
    Ok(())
}

/// Those that were asked for, else all.
fn orders(options: &RouteReplay) -> Vec<OrderOfService> {
    if options.strategy.is_empty() {
        return ORDERS
            .iter()
            .filter_map(|word| order_of_service(word).ok())
            .collect();
    }
    options.strategy.clone()
}

fn outcome(order: OrderOfService, log: &Log, workload: &Workload) -> Outcome {
    match order {
        OrderOfService::Recorded => log.recorded(),
        OrderOfService::Simulated(strategy) => simulate(workload, strategy),
    }
}

fn name(order: OrderOfService) -> String {
    match order {
        OrderOfService::Recorded => "recorded".to_owned(),
        OrderOfService::Simulated(Strategy::UnpinnedFifo) => "unpinned-fifo".to_owned(),
        OrderOfService::Simulated(Strategy::Fifo) => "fifo".to_owned(),
        OrderOfService::Simulated(Strategy::Collate) => "collate".to_owned(),
        OrderOfService::Simulated(Strategy::Quantum(quantum)) => format!("quantum-{quantum}"),
    }
}

fn read(path: &Path) -> Result<Log, Report> {
    let text = if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(path)
    };
    let text = text.map_err(|error| {
        Report::user(format!("{}: {error}", path.display()))
            .hint("name a log of requests that the gateway has written, or - for standard input")
    })?;
    let log = parse(&text, &path.display().to_string())?;
    if log.is_empty() {
        let text = format!("{}: no request in it reached an endpoint", path.display());
        return Err(Report::user(text).hint("replay a log of a time at which agents worked"));
    }
    Ok(log)
}

/// Every line is a request; the first that is not is an error with its place.
fn parse(text: &str, file: &str) -> Result<Log, Report> {
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    let requests = lines.map(|(number, line)| {
        serde_json::from_str::<Served>(line).map_err(|error| {
            let text = format!(
                "{file}:{}: this is no request of the gateway: {error}",
                number + 1
            );
            Report::user(text).hint("each line is one JSON object as the gateway writes it")
        })
    });
    Ok(Log::new(requests.collect::<Result<_, _>>()?))
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

fn columns() -> Vec<String> {
    let columns = [
        "ORDER", "MAKESPAN", "WAIT P50", "P95", "P99", "LONGEST", "SWAPS", "SWAPPING",
    ];
    columns.map(str::to_owned).to_vec()
}

fn row(name: &str, outcome: &Outcome) -> Vec<String> {
    let wait = |part| seconds(outcome.wait(part));
    vec![
        name.to_owned(),
        seconds(outcome.makespan),
        wait(0.5),
        wait(0.95),
        wait(0.99),
        wait(1.0),
        outcome.swaps.to_string(),
        seconds(outcome.swapping),
    ]
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

fn document(log: &Log, workload: &Workload, rows: &[(String, Outcome)]) -> Value {
    let machines = workload.machines.iter().map(|machine| {
        json!({
            "endpoint": machine.endpoint,
            "slots": machine.slots,
            "room": machine.room,
        })
    });
    let orders = rows.iter().map(|(name, outcome)| {
        json!({
            "strategy": name,
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

    const LINE: &str = r#"{"id": 1, "at": 0, "client": "agent-1", "model": "m:7b",
        "endpoint": "gpu", "total_us": 5000000, "outcome": {"ended": "done"}}"#;

    #[test]
    fn a_line_that_is_no_request_is_named_with_file_and_line() {
        let text = format!("{}\n\n{{\"id\": 2}}\n", LINE.replace('\n', " "));
        let error = parse(&text, "requests.jsonl").unwrap_err();
        assert_eq!(error.kind.code(), 2);
        let text = error.to_string();
        assert!(
            text.starts_with("error: requests.jsonl:3: this is no request"),
            "{text}"
        );
        assert!(text.contains("hint: "), "{text}");
    }

    #[test]
    fn every_order_of_service_serves_the_whole_log() {
        let text = LINE.replace('\n', " ");
        let log = parse(&text, "log").unwrap();
        let workload = log.workload(Machines::default());
        for word in ORDERS {
            let order = order_of_service(word).unwrap();
            let outcome = outcome(order, &log, &workload);
            assert_eq!(outcome.answers(), 1, "{word}");
            assert!(name(order).starts_with(word));
        }
        assert_eq!(
            order_of_service("quantum-8").map(name),
            Ok("quantum-8".to_owned())
        );
        assert!(order_of_service("quantum-0").is_err());
        assert!(order_of_service("fastest").unwrap_err().contains("collate"));
    }
}
