//! Times as text: RFC 3339 in UTC, milliseconds since 1970, and spans such as `90s` and `2h`.

use crate::types::Timestamp;

const DAY_MILLIS: i64 = 86_400_000;

/// `2026-11-21T08:00:00.000Z`.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    let (days, millis) = (time.0.div_euclid(DAY_MILLIS), time.0.rem_euclid(DAY_MILLIS));
    let (year, month, day) = civil_from_days(days);
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, fraction) = (millis / 1000 % 60, millis % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hours:02}:{minutes:02}:{seconds:02}.{fraction:03}Z")
}

/// A date with or without a time of day (UTC), or milliseconds since 1970.
#[must_use]
pub fn parse(text: &str) -> Option<Timestamp> {
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(Timestamp);
    }
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, "00:00"));
    let mut date = date.split('-');
    let year = number(date.next()?, 4)?;
    let month = number(date.next()?, 2)?;
    let day = number(date.next()?, 2)?;
    let valid = (1..=12).contains(&month) && (1..=31).contains(&day) && date.next().is_none();
    let time = time.strip_suffix('Z').unwrap_or(time);
    let (time, fraction) = time.split_once('.').unwrap_or((time, "0"));
    let mut time = time.split(':');
    let hours = number(time.next()?, 2)?;
    let minutes = number(time.next()?, 2)?;
    let seconds = time.next().map_or(Some(0), |text| number(text, 2))?;
    let valid = valid && hours < 24 && minutes < 60 && seconds < 60 && time.next().is_none();
    let padded = format!("{fraction:0<3}");
    let millis = number(padded.get(..3)?, 3)?;
    let days = days_from_civil(year, month, day);
    valid.then_some(Timestamp(
        days * DAY_MILLIS + ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis,
    ))
}

/// `500ms`, `90s`, `15m`, `2h` or `7d` in milliseconds.
#[must_use]
pub fn parse_span(text: &str) -> Option<i64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let factor = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY_MILLIS,
        _ => return None,
    };
    let count: i64 = text.strip_suffix(unit)?.parse().ok()?;
    count.checked_mul(factor)
}

fn number(text: &str, digits: usize) -> Option<i64> {
    let fine = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
    fine.then(|| text.parse().ok()).flatten()
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar. Counts in
/// eras of 400 years that begin on the first of March.
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_survives_its_text() {
        for millis in [0, 951_782_400_000, 1_795_248_000_123, 4_107_542_399_999, -1] {
            let time = Timestamp(millis);
            assert_eq!(parse(&rfc3339(time)), Some(time), "{}", rfc3339(time));
        }
        assert_eq!(
            rfc3339(Timestamp(951_782_400_000)),
            "2000-02-29T00:00:00.000Z"
        );
    }

    #[test]
    fn short_forms_are_read_and_others_refused() {
        assert_eq!(parse("1970-01-02"), Some(Timestamp(DAY_MILLIS)));
        assert_eq!(parse("1970-01-01T00:01"), Some(Timestamp(60_000)));
        assert_eq!(parse("12"), Some(Timestamp(12)));
        for bad in [
            "",
            "x",
            "1970-13-01",
            "1970-1-1",
            "1970-01-01T25:00",
            "1970-01-01T00:00+01",
        ] {
            assert_eq!(parse(bad), None, "{bad}");
        }
        assert_eq!(parse_span("90s"), Some(90_000));
        assert_eq!(parse_span("s"), None);
    }
}
