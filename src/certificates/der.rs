//! The little of DER (X.690) that certificates are written in.

pub(super) const BOOLEAN: u8 = 0x01;
pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const UTF8_STRING: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
pub(super) const SET: u8 = 0x31;
/// Implicitly tagged alternatives of GeneralName (RFC 5280, 4.2.1.6).
pub(super) const DNS_NAME: u8 = 0x82;
pub(super) const IP_ADDRESS: u8 = 0x87;

/// Content octets of object identifiers.
pub(super) mod oid {
    pub(in super::super) const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
    pub(in super::super) const SUBJECT_KEY_ID: &[u8] = &[0x55, 0x1d, 0x0e];
    pub(in super::super) const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
    pub(in super::super) const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
    pub(in super::super) const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
    pub(in super::super) const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
    pub(in super::super) const AUTHORITY_KEY_ID: &[u8] = &[0x55, 0x1d, 0x23];
    pub(in super::super) const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
    /// 1.3.6.1.5.5.7.3.1
    pub(in super::super) const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
    /// 1.2.840.10045.2.1
    pub(in super::super) const EC_PUBLIC_KEY: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
    /// 1.2.840.10045.3.1.7
    pub(in super::super) const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    /// 1.2.840.10045.4.3.2
    pub(in super::super) const ECDSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
}

/// The number of a context-specific tag for something constructed.
pub(super) const fn context(number: u8) -> u8 {
    0xa0 | number
}

/// One element around the elements or octets in `parts`, one after the other.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut made = vec![tag];
    match (u8::try_from(length), length.to_be_bytes()) {
        (Ok(short), _) if short < 0x80 => made.push(short),
        (_, digits) => {
            let zeros = digits.iter().take_while(|&&digit| digit == 0).count();
            let digits = &digits[zeros..];
            // At most eight of them.
            made.push(0x80 | u8::try_from(digits.len()).unwrap_or(0));
            made.extend_from_slice(digits);
        }
    }
    made.extend(parts.iter().copied().flatten());
    made
}

/// Takes elements off the front of some DER.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    /// The next element's tag and content; `None` at the end, or where it is no DER.
    pub(super) fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], mut rest) = self.0.split_first_chunk()?;
        let mut length = usize::from(first);
        if first >= 0x80 {
            // Our certificates have a few hundred bytes.
            let digits = length - 0x80;
            let (number, after) = rest.split_at_checked(digits).filter(|_| digits <= 3)?;
            length = number.iter().fold(0, |sum, &digit| sum << 8 | usize::from(digit));
            rest = after;
        }
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, content))
    }

    /// The next element's content, if it has this tag.
    pub(super) fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, content)| content)
    }
}

/// Seconds since 1970 of `YYMMDDhhmmssZ` (1950 to 2049) or `YYYYMMDDhhmmssZ` (RFC 5280, 4.1.2.5).
pub(super) fn read_time((tag, text): (u8, &[u8])) -> Option<u64> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let two = |at: usize| {
        let pair = digits.get(at..at + 2)?;
        Some(u64::from(pair[0] - b'0') * 10 + u64::from(pair[1] - b'0'))
    };
    let (year, at) = match (tag, digits.len()) {
        (UTC_TIME, 12) if two(0)? < 50 => (2000 + two(0)?, 2),
        (UTC_TIME, 12) => (1900 + two(0)?, 2),
        (GENERALIZED_TIME, 14) => (two(0)? * 100 + two(2)?, 4),
        _ => return None,
    };
    let days = days_since_1970(year, two(at)?, two(at + 2)?)?;
    let (hour, minute, second) = (two(at + 4)?, two(at + 6)?, two(at + 8)?);
    let in_range = hour < 24 && minute < 60 && second < 61;
    in_range.then_some(((days * 24 + hour) * 60 + minute) * 60 + second)
}

/// The element for a moment since 1970, in the form RFC 5280 prescribes for its year; nothing lies
/// after the year 9999.
pub(super) fn time(seconds: u64) -> Vec<u8> {
    let seconds = seconds.min(253_402_300_799);
    let (year, month, day) = date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let rest = format!("{month:02}{day:02}{hour:02}{minute:02}{second:02}Z");
    let (tag, year) = if year < 2050 {
        (UTC_TIME, format!("{:02}", year % 100))
    } else {
        (GENERALIZED_TIME, year.to_string())
    };
    element(tag, &[year.as_bytes(), rest.as_bytes()])
}

// Years begin in March here, so that a leap day is the last day of one. Days count from 1 March of
// the year 0.

/// From there to 1 January 1970.
const DAYS_TO_1970: u64 = 719_468;

fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let (year, month) =
        if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    (days_to_year(year) + days_to_month(month) + day - 1).checked_sub(DAYS_TO_1970)
}

/// Year, month and day.
fn date(since_1970: u64) -> (u64, u64, u64) {
    let days = since_1970 + DAYS_TO_1970;
    // 400 years have 146,097 days. The guess is right or one too many.
    let guess = days * 400 / 146_097;
    let year = if days_to_year(guess) > days { guess - 1 } else { guess };
    let rest = days - days_to_year(year);
    let month = (rest * 5 + 2) / 153;
    let day = rest - days_to_month(month) + 1;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

fn days_to_year(year: u64) -> u64 {
    year * 365 + year / 4 - year / 100 + year / 400
}

fn days_to_month(month: u64) -> u64 {
    (month * 153 + 2) / 5
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_and_read_in_both_forms() {
        for (tag, text, seconds) in [
            (UTC_TIME, "700101000000Z", 0),
            (UTC_TIME, "261101000000Z", 1_793_491_200),
            (UTC_TIME, "000229123456Z", 951_827_696),
            (UTC_TIME, "491231235959Z", 2_524_607_999),
            (GENERALIZED_TIME, "20500101000000Z", 2_524_608_000),
            (GENERALIZED_TIME, "99991231235959Z", 253_402_300_799),
        ] {
            assert_eq!(read_time((tag, text.as_bytes())), Some(seconds), "{text}");
            assert_eq!(time(seconds), element(tag, &[text.as_bytes()]), "{text}");
        }
        assert_eq!(time(u64::MAX), time(253_402_300_799));
    }

    #[test]
    fn every_day_of_four_hundred_years_comes_back() {
        for day in 0..146_200 {
            let seconds = day * 86_400 + day % 86_400;
            let written = time(seconds);
            assert_eq!(Reader(&written).next().and_then(read_time), Some(seconds), "{written:?}");
        }
    }

    #[test]
    fn no_times_are_none() {
        for text in [
            "",
            "Z",
            "26110100000Z",
            "2611010000000Z",
            "261301000000Z",
            "261100000000Z",
            "261101240000Z",
            "26110100000xZ",
            "261101000000",
            "500101000000Z",
            "2611010000+1Z",
        ] {
            assert_eq!(read_time((UTC_TIME, text.as_bytes())), None, "{text}");
        }
        assert_eq!(read_time((INTEGER, b"261101000000Z")), None);
        assert_eq!(read_time((GENERALIZED_TIME, b"00000101000000Z")), None);
    }

    #[test]
    fn elements_of_every_length_come_back() {
        for length in [0, 1, 127, 128, 255, 256, 65_535, 65_536] {
            let content = vec![7; length];
            let written = element(OCTET_STRING, &[&content, &[]]);
            let mut reader = Reader(&written);
            assert_eq!(reader.take(OCTET_STRING), Some(content.as_slice()));
            assert_eq!(reader.next(), None);
        }
        assert_eq!(element(OCTET_STRING, &[&[0; 200]])[..3], [4, 0x81, 200]);
        assert_eq!(element(OCTET_STRING, &[&[0; 300]])[..4], [4, 0x82, 1, 44]);
    }
}
