//! Roomlog under load with faults of every kind: seeded runs over real processes, and a checker of the
//! promises. A program of its own, `cargo test --test torture -- --help`, whose short set is part of `cargo
//! test`.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

mod faults;
mod load;
#[allow(dead_code, unused_imports)]
mod model;
mod options;
mod report;
mod run;
mod world;

use std::io::BufReader;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use clap::Parser;
use parking_lot::Mutex;
use roomlog_testkit as harness;

use model::check::{Violation, check};
use model::plan::Plan;
use options::Options;
use report::Summary;

/// Seconds that a run takes besides its faults, for the estimate that is printed beforehand.
const BESIDES: u64 = 20;

/// Maximum number of violations that are printed for each rule.
const SHOWN: usize = 3;

fn main() -> ExitCode {
    let options = Options::parse();
    if options.is_filtered_out() {
        return ExitCode::SUCCESS;
    }
    harness::install_tls_provider();
    let outcome = match &options.check {
        Some(folder) => check_again(folder),
        None => carry_out(&options),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("torture: {error}");
            ExitCode::from(2)
        }
    }
}

fn plans(options: &Options) -> std::io::Result<Vec<Plan>> {
    if let Some(path) = &options.replay {
        return Ok(vec![serde_json::from_reader(BufReader::new(std::fs::File::open(path)?))?]);
    }
    let plan = |run| Plan::draw(options.seed + run, options.topology_of(run), options.seconds);
    Ok((0..options.count()).map(plan).collect())
}

/// Carries out all plans. Returns whether every promise held.
fn carry_out(options: &Options) -> std::io::Result<bool> {
    let plans = plans(options)?;
    if options.plan {
        plans.iter().for_each(|plan| print!("{}\n{}", report::heading(plan), report::schedule(plan)));
        return Ok(true);
    }
    let (runs, parallel) = (plans.len() as u64, options.parallel.max(1));
    let seconds =
        plans.iter().map(|plan| plan.seconds + BESIDES).sum::<u64>() / (parallel as u64).min(runs).max(1);
    println!("torture: {runs} runs, {parallel} at a time: about {} min", seconds.div_ceil(60));
    let began = Instant::now();
    let mut summary = Summary::default();
    let mut done = 0;
    let plans = Arc::new(Mutex::new(plans.into_iter()));
    let (send, ended) = std::sync::mpsc::sync_channel(parallel);
    for _ in 0..parallel {
        let (plans, send) = (Arc::clone(&plans), send.clone());
        std::thread::spawn(move || {
            loop {
                let Some(plan) = plans.lock().next() else { return };
                send.send(run::run(plan)).unwrap();
            }
        });
    }
    drop(send);
    for outcomes in ended {
        done += 1;
        summary.add(&outcomes);
        let verdict = if outcomes.violations.is_empty() { "sound" } else { "BROKEN" };
        println!("[{done}/{runs}] {}: {verdict}", report::heading(&outcomes.plan));
        if !outcomes.violations.is_empty() {
            print!("{}", report::schedule(&outcomes.plan));
            show(&outcomes.violations);
            let folder = run::save(&outcomes, &options.out)?;
            println!("    again: cargo test --test torture -- --replay {}/plan.json", folder.display());
        }
    }
    println!("\n{}\n{:.0} s", summary.text(), began.elapsed().as_secs_f64());
    if let Some(path) = &options.report {
        std::fs::write(path, summary.markdown())?;
    }
    Ok(summary.failed.is_empty())
}

/// Checks the saved record of a run again.
fn check_again(folder: &std::path::Path) -> std::io::Result<bool> {
    let open = |name| Ok::<_, std::io::Error>(BufReader::new(std::fs::File::open(folder.join(name))?));
    let plan: Plan = serde_json::from_reader(open("plan.json")?)?;
    let events = model::record::read(open("record.jsonl")?)?;
    let violations = check(&plan, &events);
    println!("{}: {} violations", report::heading(&plan), violations.len());
    show(&violations);
    Ok(violations.is_empty())
}

/// Prints some violations of each rule.
fn show(violations: &[Violation]) {
    let mut rules: Vec<&str> = violations.iter().map(|found| found.rule.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    for rule in rules {
        let of_rule: Vec<_> = violations.iter().filter(|found| found.rule == rule).collect();
        println!("  ! {rule} ({})", of_rule.len());
        for found in of_rule.iter().take(SHOWN) {
            println!("      {}", found.text.chars().take(300).collect::<String>());
        }
    }
}
