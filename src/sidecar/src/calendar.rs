//! Conversion of times to text, and of text to times.

pub(super) const SECOND: i64 = 1_000_000;
pub(super) const DAY: i64 = 86_400 * SECOND;

/// A time that was written.
pub(super) struct Parsed {
    pub micros: i64,
    /// Not in UTC.
    pub has_offset: bool,
}

/// `YYYY-MM-DD`, then `T` or a space and `HH:MM`, then `:SS` and a fraction, then `Z` or an offset:
/// each part may be missing, and what follows it. Without an offset it is UTC.
pub(super) fn parse(text: &str) -> Option<Parsed> {
    let text = text.trim();
    let (date, time) = match text.get(..10) {
        Some(date) => (date, &text[10..]),
        None => return None,
    };
    let number = |text: &str, width: usize| {
        (text.len() == width && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse::<i64>().ok()).flatten()
    };
    let [year, month, day] = date.split('-').collect::<Vec<_>>()[..] else { return None };
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let days = Civil::days(year, month, day)?;
    if time.is_empty() {
        return Some(Parsed { micros: days * DAY, has_offset: false });
    }
    let time = time.strip_prefix(['T', 't', ' '])?.trim_start();
    let end = time.find(['Z', 'z', '+', '-']).unwrap_or(time.len());
    let (clock, zone) = (time[..end].trim_end(), &time[end..]);
    let offset = match zone.strip_prefix(['Z', 'z']) {
        Some("") => 0,
        Some(_) => return None,
        None if zone.is_empty() => 0,
        None => {
            let sign = if zone.starts_with('-') { -1 } else { 1 };
            let (hours, minutes) = match zone[1..].split_once(':') {
                Some((hours, minutes)) => (number(hours, 2)?, number(minutes, 2)?),
                None if zone.len() == 5 => (number(&zone[1..3], 2)?, number(&zone[3..], 2)?),
                None => (number(&zone[1..], 2)?, 0),
            };
            (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))?
        }
    };
    let parts: Vec<&str> = clock.split(':').collect();
    let (hours, minutes, seconds) = match parts[..] {
        [hours, minutes] => (hours, minutes, "00"),
        [hours, minutes, seconds] => (hours, minutes, seconds),
        _ => return None,
    };
    let (seconds, fraction) = match seconds.split_once(['.', ',']) {
        Some((seconds, fraction)) => (seconds, fraction),
        None => (seconds, "0"),
    };
    let (hours, minutes, seconds) = (number(hours, 2)?, number(minutes, 2)?, number(seconds, 2)?);
    // A leap second is the second after it; 24:00 is the next day.
    if hours > 24 || minutes > 59 || seconds > 60 || fraction.is_empty() || fraction.len() > 18 {
        return None;
    }
    if !fraction.bytes().all(|c| c.is_ascii_digit()) {
        return None;
    }
    let micros: i64 = format!("{fraction:0<6}")[..6].parse().ok()?;
    let seconds = hours * 3_600 + minutes * 60 + seconds - offset;
    Some(Parsed { micros: days * DAY + seconds * SECOND + micros, has_offset: offset != 0 })
}

/// A time in the proleptic Gregorian calendar, UTC. Conversions: Hinnant, "chrono-compatible
/// low-level date algorithms".
pub(super) struct Civil {
    year: i64,
    month: i64,
    day: i64,
    /// Microseconds of the day.
    micros: i64,
}

impl Civil {
    /// `None` before the year 1 and after 9999: such times have no text of one width.
    pub fn of(time: i64) -> Option<Self> {
        let civil = Self::at(time);
        (1..=9999).contains(&civil.year).then_some(civil)
    }

    pub fn at(time: i64) -> Self {
        let (days, micros) = (time.div_euclid(DAY) + 719_468, time.rem_euclid(DAY));
        let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Self { year: year + era * 400 + i64::from(month <= 2), month, day, micros }
    }

    fn days(year: i64, month: i64, day: i64) -> Option<i64> {
        const LENGTHS: [i64; 12] = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
        let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let length = LENGTHS.get(usize::try_from(month - 1).ok()?)? + i64::from(month == 2 && is_leap);
        if !(1..=length).contains(&day) {
            return None;
        }
        let year = year - i64::from(month <= 2);
        let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
        Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
    }

    pub fn date(&self) -> String {
        format!("{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }

    pub fn to_seconds(&self, separator: char) -> String {
        let seconds = self.micros / SECOND;
        let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
        format!("{}{separator}{hours:02}:{minutes:02}:{:02}", self.date(), seconds % 60)
    }

    /// As PostgreSQL reads a timestamp, to the microsecond; years before 1 as BC.
    pub fn timestamp(&self) -> String {
        let (year, era) = if self.year > 0 { (self.year, "") } else { (1 - self.year, " BC") };
        let shown = Self { year, ..*self };
        format!("{}.{:06}+00{era}", shown.to_seconds(' '), self.micros % SECOND)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(text: &str) -> Option<i64> {
        parse(text).map(|parsed| parsed.micros)
    }

    #[test]
    fn iso_texts_are_read() {
        assert_eq!(micros("1970-01-01"), Some(0));
        assert_eq!(micros("1970-01-01 00:01"), Some(60 * SECOND));
        assert_eq!(micros("1970-01-01T00:00:01Z"), Some(SECOND));
        assert_eq!(micros("2024-02-29T12:30:45.123456789+02:00"), Some(1_709_202_645_123_456));
        assert_eq!(micros("2024-02-29 10:30:45.123456"), Some(1_709_202_645_123_456));
        assert_eq!(micros("2024-02-29T10:30:45,5"), Some(1_709_202_645_500_000));
        assert_eq!(micros("2024-02-29 05:30:45-0500"), Some(1_709_202_645_000_000));
        assert_eq!(micros("1969-12-31T23:59:59.999999"), Some(-1));
        for wrong in ["", "yesterday", "2023-02-29", "2024-13-01", "2024-01-01T25:00", "2024-01-01T10", "1700000000"] {
            assert_eq!(micros(wrong), None, "{wrong:?}");
        }
        for wrong in [
            "2024-01-01X10:00",
            "2024-01-01T10:00:00.",
            "2024-01-01T10:00:00ZZ",
            "2024-01-01T10:00+99:00",
            "é024-01-01",
        ] {
            assert_eq!(micros(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn days_and_dates_are_inverse() {
        for day in (-800_000..3_000_000).step_by(97) {
            let civil = Civil::at(day * DAY);
            assert_eq!(Civil::days(civil.year, civil.month, civil.day), Some(day), "{}", civil.date());
        }
        assert_eq!(Civil::at(1_709_202_645_123_456).timestamp(), "2024-02-29 10:30:45.123456+00");
        assert_eq!(Civil::at(-62_167_219_200 * SECOND).timestamp(), "0001-01-01 00:00:00.000000+00 BC");
    }
}
