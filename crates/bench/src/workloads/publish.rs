//! `publish`: publishes as fast as confirmations arrive.

use std::cell::Cell;
use std::rc::Rc;

use super::super::load;
use super::super::report::Figures;
use super::super::tally::Tally;
use super::super::{BenchError, Plan, Target};
use super::measure;

pub(super) async fn publish(plan: &Plan, target: &Target, tally: &Rc<Tally>) -> Result<Figures, BenchError> {
    let rooms = load::rooms(plan, target, tally, |_| false).await?;
    let stop = Cell::new(false);
    let measuring = async {
        let measured = measure(plan, target, tally, || {}).await;
        stop.set(true);
        measured
    };
    let (measured, ()) = tokio::join!(measuring, load::closed(plan, &rooms, &stop, u64::MAX));
    let (_, figures) = measured?;
    load::check(&rooms, tally).await;
    Ok(figures)
}
