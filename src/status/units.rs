//! Numbers with units, for people.

/// A length of time with two units at most: `42s`, `3m7s`, `5h2m`, `4d3h`.
pub(crate) fn span(seconds: f64) -> String {
    let seconds = if seconds.is_finite() { seconds.max(0.0) as u64 } else { 0 };
    let (m, h, d) = (60, 3600, 86_400);
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{}s", seconds / m, seconds % m),
        3600..86_400 => format!("{}h{}m", seconds / h, seconds % h / m),
        _ => format!("{}d{}h", seconds / d, seconds % d / h),
    }
}

/// Milliseconds, or `-`.
pub(crate) fn milliseconds(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |ms| if ms < 10.0 { format!("{ms:.2}ms") } else { format!("{ms:.0}ms") })
}

/// A share of one as a percentage.
pub(crate) fn percent(share: f64) -> String {
    match share * 100.0 {
        0.0 => "0%".to_owned(),
        percent if percent < 10.0 => format!("{percent:.1}%"),
        percent => format!("{percent:.0}%"),
    }
}

/// Bytes with a binary unit: `512B`, `1.5KiB`, `20GiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count}B");
    }
    let power = (count.ilog2() / 10) as usize;
    let value = count as f64 / 1024f64.powi(power as i32);
    let unit = UNITS.get(power - 1).copied().unwrap_or("EiB");
    if value < 10.0 { format!("{value:.1}{unit}") } else { format!("{value:.0}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_chosen_to_be_read() {
        assert_eq!([span(42.9), span(187.0), span(18_120.0), span(356_400.0)], ["42s", "3m7s", "5h2m", "4d3h"]);
        assert_eq!([bytes(0), bytes(1023), bytes(1536), bytes(20 << 30)], ["0B", "1023B", "1.5KiB", "20GiB"]);
        assert_eq!(bytes(u64::MAX), "16EiB");
        assert_eq!([percent(0.0), percent(0.015), percent(1.0)], ["0%", "1.5%", "100%"]);
        assert_eq!([milliseconds(None), milliseconds(Some(0.115)), milliseconds(Some(31.4))], ["-", "0.12ms", "31ms"]);
        assert_eq!(span(f64::NAN), "0s");
    }
}
