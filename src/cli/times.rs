//! Times for people: in UTC, or with `--local` in the time zone of this machine.

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ZonedDateTime};

use super::Failed;

/// The time zone of printed times.
#[derive(Debug, Args)]
pub(super) struct ZoneArgs {
    /// Print times in this machine's time zone (or the one that TZ names) instead of UTC
    #[arg(long)]
    local: bool,
}

impl ZoneArgs {
    pub(super) fn times(&self) -> Result<Times, Failed> {
        if !self.local {
            return Ok(Times::default());
        }
        let zone = TimeZone::try_system().map_err(|error| {
            format!("the local time zone is not known ({error}); set TZ to one, such as TZ=Europe/Berlin")
        })?;
        Ok(Times::local(zone))
    }
}

/// Formats times in one time zone.
#[derive(Debug)]
pub(super) struct Times {
    zone: TimeZone,
    is_local: bool,
}

impl Default for Times {
    fn default() -> Self {
        Self { zone: TimeZone::UTC, is_local: false }
    }
}

impl Times {
    /// Times of this zone, as the local one.
    pub(super) fn local(zone: TimeZone) -> Self {
        Self { zone, is_local: true }
    }

    /// Returns `2026-01-31 UTC`, or the abbreviation of the local time that is in force then.
    pub(super) fn day(&self, ms: u64) -> String {
        self.at(ms).strftime("%F %Z").to_string()
    }

    /// Returns `12:00:05`.
    pub(super) fn clock(&self, ms: u64) -> String {
        self.at(ms).strftime("%T").to_string()
    }

    /// Returns `2026-01-31 12:00:05`, and with local times the offset: `2026-01-31 13:00:05+01:00`.
    pub(super) fn full(&self, ms: u64) -> String {
        self.at(ms).strftime(if self.is_local { "%F %T%:z" } else { "%F %T" }).to_string()
    }

    /// Returns the title of a column of [`full`](Self::full) times.
    pub(super) fn column(&self, title: &str) -> String {
        format!("{title} ({})", if self.is_local { "local" } else { "UTC" })
    }

    fn at(&self, ms: u64) -> ZonedDateTime {
        let time = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
        // After the year 9999, which ids can name, there is no agreed format.
        time.unwrap_or(Timestamp::MAX).to_zoned_datetime(self.zone.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn times_are_in_utc_unless_local_ones_are_wanted() {
        let times = Times::default();
        let ms = 1_700_000_000_999;
        assert_eq!(
            (times.day(ms), times.clock(ms), times.full(ms)),
            ("2023-11-14 UTC".into(), "22:13:20".into(), "2023-11-14 22:13:20".into())
        );
        assert_eq!(times.full(u64::MAX), "9999-12-30 22:00:00");
        assert_eq!(times.column("newest"), "newest (UTC)");
    }

    #[test]
    fn local_times_follow_the_changes_to_and_from_summer_time() {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let times = Times::local(zone);
        // An hour that comes twice on 2026-10-25.
        let (summer, winter) = (1_792_888_200_000, 1_792_891_800_000);
        assert_eq!(times.clock(summer), "02:30:00");
        assert_eq!(times.clock(winter), "02:30:00");
        assert_eq!(
            (times.day(summer), times.day(winter)),
            ("2026-10-25 CEST".into(), "2026-10-25 CET".into())
        );
        assert_eq!(times.full(winter), "2026-10-25 02:30:00+01:00");
    }
}
