//! The time that a tid stands for, as ZODB's `TimeStamp` has it.
//!
//! The upper half of a tid counts minutes since 1900 in a calendar whose months all have
//! 31 days; the lower half is the second within the minute, in units of 60/2³² seconds.
//! Nothing here reads a clock.

use std::fmt;

use crate::ids::Tid;

const FIRST_YEAR: u32 = 1900;
const MONTHS: u32 = 12;
const DAYS: u32 = 31;
const HOURS: u32 = 24;
const MINUTES: u32 = 60;
const MICROSECONDS_PER_MINUTE: u64 = 60_000_000;
const UNITS_PER_MINUTE: u64 = 1 << 32;

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

/// The time that `tid` stands for, as `str(ZODB.TimeStamp.TimeStamp(tid))` prints it.
pub fn display(tid: Tid) -> TimeStamp {
    TimeStamp::from(tid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Made by `persistent.timestamp`, see its first line.
    const TABLE: &str = include_str!("../tests/data/timestamps.txt");

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
