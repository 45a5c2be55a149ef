//! The time that a tid stands for, as ZODB's `TimeStamp` has it.
//!
//! The upper half of a tid counts minutes since 1900 in a calendar whose months all have
//! 31 days; the lower half is the second within the minute, in units of 60/2³² seconds.
//! Nothing here reads a clock.

use std::fmt;

use crate::Tid;

const FIRST_YEAR: u32 = 1900;
const MONTHS: u32 = 12;
const DAYS: u32 = 31;
const HOURS: u32 = 24;
const MINUTES: u32 = 60;
const MICROSECONDS_PER_MINUTE: u64 = 60_000_000;
const UNITS_PER_MINUTE: u64 = 1 << 32;
const SECONDS_PER_UNIT: f64 = 60.0 / 65536.0 / 65536.0;
const SECONDS_PER_DAY: i64 = 86_400;
/// Moments farther from 1970 than this have no tid.
const MAX_SECONDS: f64 = 1e12;

/// A tid taken apart into calendar and clock, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TimeStamp {
    /// 1900 to 9917.
    pub year: u32,
    /// 1 to 12.
    pub month: u32,
    /// 1 to 31, in every month.
    pub day: u32,
    /// 0 to 23.
    pub hour: u32,
    /// 0 to 59.
    pub minute: u32,
    /// The second within the minute, in units of 60/2³² seconds.
    pub second_units: u32,
}

impl TimeStamp {
    /// The tid of this time, or `None` if a part is out of its range.
    pub fn to_tid(self) -> Option<Tid> {
        let years = self.year.checked_sub(FIRST_YEAR)?;
        let in_range = (1..=MONTHS).contains(&self.month)
            && (1..=DAYS).contains(&self.day)
            && self.hour < HOURS
            && self.minute < MINUTES;
        if !in_range {
            return None;
        }
        let months = years.checked_mul(MONTHS)?.checked_add(self.month - 1)?;
        let days = months.checked_mul(DAYS)?.checked_add(self.day - 1)?;
        let hours = days.checked_mul(HOURS)?.checked_add(self.hour)?;
        let minutes = hours.checked_mul(MINUTES)?.checked_add(self.minute)?;
        Some(Tid::from_u64(
            u64::from(minutes) << 32 | u64::from(self.second_units),
        ))
    }

    /// The second within the minute in microseconds, rounded to even as `%.6f` does;
    /// 60 seconds are possible.
    pub fn microseconds(self) -> u64 {
        // At most 2³² * 60,000,000 < 2⁵⁸; binary fractions of this size are exact in a
        // double too, so integers round as Python's floating point does.
        let exact = u64::from(self.second_units) * MICROSECONDS_PER_MINUTE;
        let (whole, rest) = (exact / UNITS_PER_MINUTE, exact % UNITS_PER_MINUTE);
        let half = UNITS_PER_MINUTE / 2;
        let up = rest > half || (rest == half && whole % 2 == 1);
        whole + u64::from(up)
    }
}

impl From<Tid> for TimeStamp {
    fn from(tid: Tid) -> Self {
        let half = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| tid.as_bytes()[at + i]));
        let minutes = half(0);
        let hours = minutes / MINUTES;
        let days = hours / HOURS;
        let months = days / DAYS;
        Self {
            year: FIRST_YEAR + months / MONTHS,
            month: months % MONTHS + 1,
            day: days % DAYS + 1,
            hour: hours % HOURS,
            minute: minutes % MINUTES,
            second_units: half(4),
        }
    }
}

impl fmt::Display for TimeStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let microseconds = self.microseconds();
        write!(
            f,
            "{:04}-{:02}-{:02} {:02}:{:02}:{:02}.{:06}",
            self.year,
            self.month,
            self.day,
            self.hour,
            self.minute,
            microseconds / 1_000_000,
            microseconds % 1_000_000,
        )
    }
}

impl TimeStamp {
    /// The beginning of the next minute in the calendar.
    fn next_minute(self) -> Self {
        let mut next = Self {
            second_units: 0,
            ..self
        };
        next.minute += 1;
        if next.minute == MINUTES {
            (next.minute, next.hour) = (0, next.hour + 1);
        }
        if next.hour == HOURS {
            (next.hour, next.day) = (0, next.day + 1);
            if self.day == month_length(self.year, self.month) {
                (next.day, next.month) = (1, next.month + 1);
            }
        }
        if next.month > MONTHS {
            (next.month, next.year) = (1, next.year + 1);
        }
        next
    }
}

/// The tid of a moment in seconds since 1970, as ZODB makes it; `None` before 1900 and in
/// years too far away.
pub fn tid_at(seconds: f64) -> Option<Tid> {
    if seconds.is_nan() || seconds.abs() >= MAX_SECONDS {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "within MAX_SECONDS")]
    let whole = seconds.floor() as i64;
    let (year, month, day) = civil(whole.div_euclid(SECONDS_PER_DAY));
    let minute_of_day = whole.rem_euclid(SECONDS_PER_DAY) / 60;
    let units = seconds.rem_euclid(60.0) / SECONDS_PER_UNIT;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a quotient from 0 to below 2\u{b3}\u{b2}, of which ZODB takes the whole part too"
    )]
    let second_units = units as u32;
    TimeStamp {
        year: u32::try_from(year).ok()?,
        month,
        day,
        hour: u32::try_from(minute_of_day / 60).ok()?,
        minute: u32::try_from(minute_of_day % 60).ok()?,
        second_units,
    }
    .to_tid()
}

/// The moment that a tid stands for in seconds since 1970, to the bit what ZODB's
/// `TimeStamp.timeTime` returns.
pub fn seconds_at(tid: Tid) -> f64 {
    let stamp = TimeStamp::from(tid);
    let days = days_since_1900(stamp.year)
        + days_before_month(stamp.year, stamp.month)
        + i64::from(stamp.day - 1);
    let minutes = i64::from(stamp.hour * MINUTES + stamp.minute);
    let second = SECONDS_PER_UNIT * f64::from(stamp.second_units);
    #[expect(
        clippy::cast_precision_loss,
        reason = "seconds of eight thousand years are far below 2\u{2075}\u{00b3}"
    )]
    let (whole, epoch) = (
        (days * SECONDS_PER_DAY + minutes * 60) as f64,
        (days_since_1900(1970) * SECONDS_PER_DAY) as f64,
    );
    whole + second - epoch
}

/// `tid` if it is later than `other`, or else the first one later than that, as ZODB's
/// `TimeStamp.laterThan` makes it.
pub fn later_than(tid: Tid, other: Tid) -> Tid {
    if tid > other {
        return tid;
    }
    let stamp = TimeStamp::from(other);
    if stamp.second_units < u32::MAX {
        return Tid::from_u64(other.as_u64() + 1);
    }
    stamp.next_minute().to_tid().unwrap_or(Tid::MAX)
}

fn is_leap(year: u32) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

fn month_length(year: u32, month: u32) -> u32 {
    match month {
        2 => 28 + u32::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_before_month(year: u32, month: u32) -> i64 {
    (1..month)
        .map(|month| i64::from(month_length(year, month)))
        .sum()
}

fn days_since_1900(year: u32) -> i64 {
    let years = i64::from(year) - 1;
    let leap_days = |years: i64| years / 4 - years / 100 + years / 400;
    let first = i64::from(FIRST_YEAR) - 1;
    (years - first) * 365 + leap_days(years) - leap_days(first)
}

/// Year, month and day of a day counted from 1970-01-01.
fn civil(days: i64) -> (i64, u32, u32) {
    // In a year that begins in March the leap day is the last one.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let small = |number: i64| u32::try_from(number).unwrap_or_default();
    (year, small(month), small(day))
}

/// The time that `tid` stands for, as `str(ZODB.TimeStamp.TimeStamp(tid))` prints it.
pub fn display(tid: Tid) -> TimeStamp {
    TimeStamp::from(tid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made by `persistent.timestamp`, see its first line.
    const TABLE: &str = include_str!("../../../tests/data/timestamps.txt");

    #[test]
    fn prints_what_python_prints() {
        let mut rows = 0;
        let mut rounded_up_to_sixty = 0;
        for line in TABLE.lines().filter(|line| !line.starts_with('#')) {
            let (tid, text) = line.split_once(' ').unwrap();
            let tid = Tid::from_u64(u64::from_str_radix(tid, 16).unwrap());
            assert_eq!(display(tid).to_string(), text, "{tid}");
            rows += 1;
            rounded_up_to_sixty += usize::from(text.ends_with(":60.000000"));
        }
        assert!(
            rows > 250 && rounded_up_to_sixty > 5,
            "{rows}, {rounded_up_to_sixty}"
        );
    }

    #[test]
    fn the_time_of_the_documents_first_transaction() {
        let tid = Tid::from_u64(0x036c_6b90_f333_3333);
        assert_eq!(display(tid).to_string(), "2007-03-21 20:32:57.000000");
        assert_eq!(display(Tid::ZERO).to_string(), "1900-01-01 00:00:00.000000");
    }

    #[test]
    fn parts_out_of_range_have_no_tid() {
        let good = display(Tid::from_u64(0x036c_6b90_f333_3333));
        for bad in [
            TimeStamp { year: 1899, ..good },
            TimeStamp {
                year: u32::MAX,
                ..good
            },
            TimeStamp { month: 0, ..good },
            TimeStamp { month: 13, ..good },
            TimeStamp { day: 0, ..good },
            TimeStamp { day: 32, ..good },
            TimeStamp { hour: 24, ..good },
            TimeStamp { minute: 60, ..good },
        ] {
            assert_eq!(bad.to_tid(), None, "{bad:?}");
        }
    }

    #[test]
    fn minutes_end_as_in_the_calendar() {
        let end = |year, month, day, hour, minute| TimeStamp {
            year,
            month,
            day,
            hour,
            minute,
            second_units: u32::MAX,
        };
        for (stamp, next) in [
            (end(2024, 2, 28, 23, 59), "2024-02-29 00:00:00.000000"),
            (end(2023, 2, 28, 23, 59), "2023-03-01 00:00:00.000000"),
            (end(2023, 12, 31, 23, 59), "2024-01-01 00:00:00.000000"),
            (end(2023, 5, 1, 7, 59), "2023-05-01 08:00:00.000000"),
        ] {
            let tid = stamp.to_tid().unwrap();
            assert_eq!(display(later_than(Tid::ZERO, tid)).to_string(), next);
        }
    }

    #[test]
    fn moments_have_the_tids_that_zodb_gives_them() {
        // TimeStamp(*time.gmtime(t)[:5] + (t % 60,)).raw(), and its timeTime().
        for (seconds, tid, back) in [
            (0.0, 0x023c_2b00_0000_0000, 0.0_f64),
            (
                1_732_131_845.678_9,
                0x03fc_cd40_183a_df88,
                1_732_131_845.678_899_8,
            ),
            (
                951_782_399.999_999,
                0x0332_addf_ffff_ffbb,
                951_782_399.999_999,
            ),
            (
                5_000_000_000.123_456,
                0x074b_4435_55dc_2e22,
                5_000_000_000.123_456,
            ),
        ] {
            assert_eq!(tid_at(seconds), Some(Tid::from_u64(tid)), "{seconds}");
            let found = seconds_at(Tid::from_u64(tid));
            assert_eq!(found.to_bits(), back.to_bits(), "{seconds}");
        }
        assert_eq!(tid_at(f64::NAN), None);
        assert_eq!(tid_at(1e300), None);
    }

    proptest! {
        #[test]
        fn every_tid_comes_back_from_its_time(number: u64) {
            let tid = Tid::from_u64(number);
            prop_assert_eq!(display(tid).to_tid(), Some(tid));
        }

        #[test]
        fn later_tids_are_later_times(a: u64, b: u64) {
            let (a, b) = (Tid::from_u64(a), Tid::from_u64(b));
            prop_assert_eq!(a.cmp(&b), display(a).cmp(&display(b)));
        }
    }
}
