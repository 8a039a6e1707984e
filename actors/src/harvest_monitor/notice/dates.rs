//! Moments as clouds write them, as unix seconds.
//!
//! **Promises:** what is no moment is none; nothing overflows.
//! **Gives up:** time zones other than UTC, which no metadata service uses.

use std::time::{SystemTime, UNIX_EPOCH};

/// Now, by our own clock.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `Tue, 09 Aug 2022 17:07:32 GMT`, as HTTP and Azure write it.
pub fn rfc1123(text: &str) -> Option<u64> {
    let mut words = text.trim().split_once(", ")?.1.split_whitespace();
    let (day, month, year) = (words.next()?, words.next()?, words.next()?);
    let time = words.next()?;
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|name| *name == month)? as u64 + 1;
    seconds(digits(year)?, month, digits(day)?, time)
}

/// `2022-08-09T17:07:32Z`, with or without a fraction, as AWS writes it.
pub fn iso8601(text: &str) -> Option<u64> {
    let (date, time) = text.trim().strip_suffix('Z')?.split_once('T')?;
    let mut parts = date.split('-').map(digits);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    seconds(year, month, day, time.split('.').next()?)
}

fn digits(text: &str) -> Option<u64> {
    let plain = (1..=4).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn seconds(year: u64, month: u64, day: u64, time: &str) -> Option<u64> {
    let mut parts = time.split(':').map(digits);
    let (hour, minute, second) = (parts.next()??, parts.next()??, parts.next()??);
    let is_one = parts.next().is_none()
        && (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second <= 60;
    // Howard Hinnant's days_from_civil: the year begins in March, so that the leap day is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let of_year = (153 * month + 2) / 5 + day.checked_sub(1)?;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    is_one
        .then(|| days.checked_sub(719_468))
        .flatten()
        .map(|days| days * 86_400 + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clouds_moments_are_read() {
        assert_eq!(rfc1123("Tue, 09 Aug 2022 17:07:32 GMT"), Some(1_660_064_852));
        assert_eq!(iso8601("2022-08-09T17:07:32Z"), Some(1_660_064_852));
        assert_eq!(iso8601("2022-08-09T17:07:32.123Z"), Some(1_660_064_852));
        assert_eq!(iso8601("2000-02-29T00:00:00Z"), Some(951_782_400));
        assert_eq!(iso8601("1970-01-01T00:00:00Z"), Some(0));
    }

    #[test]
    fn nonsense_is_no_moment() {
        for text in [
            "",
            "soon",
            "Someday, 99 Foo 99999 99:99:99 GMT",
            "Tue, 09 Aug 2022",
            "Tue, 09 Aug 2022 17:07 GMT",
        ] {
            assert_eq!(rfc1123(text), None, "{text}");
        }
        for text in [
            "",
            "99999-99-99T99:99:99Z",
            "2022-08-09T17:07:32",
            "2022-00-09T17:07:32Z",
            "1969-12-31T23:59:59Z",
        ] {
            assert_eq!(iso8601(text), None, "{text}");
        }
    }
}
