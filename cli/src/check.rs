//! `meshctl check`: whether the mesh is in order, as `linkerd check` asks.
//!
//! `facts` asks the running mesh and reads its files, `rules` judges what came of it (pure), `report`
//! prints the verdicts. A check that fails says what to do next.

mod chain;
mod clock;
mod facts;
mod report;
mod rules;

use crate::args::CheckArgs;
use crate::out;
use report::Report;
use std::time::{Duration, Instant};

/// Between two rounds of checks that wait for something.
const PERIOD: Duration = Duration::from_secs(1);

/// Prints the verdicts; `false` if a check failed.
pub fn run(args: CheckArgs) -> anyhow::Result<bool> {
    let report = out::runtime()?.block_on(settled(&args))?;
    report.print(args.output)?;
    Ok(report.success())
}

/// The report of the first round in which nothing failed, or of the last one.
async fn settled(args: &CheckArgs) -> anyhow::Result<Report> {
    let started = Instant::now();
    loop {
        let facts = facts::gather(args.mesh.as_deref()).await;
        let report = rules::judge(&facts);
        let waited_for = args.wait.unwrap_or_default();
        if report.success() || started.elapsed() + PERIOD > waited_for {
            return Ok(report);
        }
        tokio::time::sleep(PERIOD).await;
    }
}
