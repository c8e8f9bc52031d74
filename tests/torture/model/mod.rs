//! The part of the torture program without I/O: schedules of faults, the record of a run, the promises that
//! hold in it, and the checker. Its tests run with the black-box tests.

pub mod check;
pub mod plan;
pub mod promise;
pub mod record;
pub mod recovery;
