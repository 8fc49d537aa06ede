//! The program's own code in this process's memory.

use std::io;
use std::ops::Range;
use std::path::Path;

/// Takes the program's code out of this process's resident memory. It stays in the page cache, and what is used again is
/// mapped again at that moment, with what lies around it (`fault_around_bytes`, 64 KiB).
///
/// Starting needs code that nothing needs later: command line, files, netlink. On a node that never has too little memory
/// the kernel would leave it mapped for as long as the process runs.
///
/// # Errors
/// `/proc` is not there, or the kernel refuses (madvise(2)).
pub fn release_text() -> io::Result<()> {
    let program = std::env::current_exe()?;
    for text in text_of(&std::fs::read_to_string("/proc/self/maps")?, &program) {
        let start = std::ptr::with_exposed_provenance_mut(text.start);
        // SAFETY: the range is a read-only mapping of a file, which is not written while it runs (ETXTBSY): each page has the
        // same content when it is mapped again.
        super::check(unsafe { libc::madvise(start, text.len(), libc::MADV_DONTNEED) })?;
    }
    Ok(())
}

/// Where a program's code is, by lines of `/proc/PID/maps` (proc_pid_maps(5)).
fn text_of(maps: &str, program: &Path) -> Vec<Range<usize>> {
    let text = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let is_text = rest.starts_with("r-xp ") && Path::new(rest.splitn(5, ' ').last()?.trim_start()) == program;
        let (start, end) = range.split_once('-').filter(|_| is_text)?;
        Some(usize::from_str_radix(start, 16).ok()?..usize::from_str_radix(end, 16).ok()?)
    };
    maps.lines().filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
5581ac000000-5581ac400000 r--p 00000000 fe:00 1234567                    /usr/bin/linkspan
5581ac400000-5581ad600000 r-xp 00400000 fe:00 1234567                    /usr/bin/linkspan
5581ad600000-5581ad700000 rw-p 01600000 fe:00 1234567                    /usr/bin/linkspan
5581ae000000-5581ae100000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000200000 r-xp 00026000 fe:00 7654321                    /usr/lib/x86_64-linux-gnu/libc.so.6
7f0000300000-7f0000301000 r-xp 00000000 00:00 0                          [vdso]
7f0000400000-7f0000500000 r-xp 00000000 fe:00 12                         /usr/bin/linkspan 2
";

    #[test]
    fn only_the_programs_own_code_is_found() {
        let found = |maps, program| -> Vec<_> {
            text_of(maps, Path::new(program)).into_iter().map(|text| (text.start, text.end)).collect()
        };
        assert_eq!(found(MAPS, "/usr/bin/linkspan"), [(0x5581_ac40_0000, 0x5581_ad60_0000)]);
        assert_eq!(found(MAPS, "/usr/bin/linkspan 2"), [(0x7f00_0040_0000, 0x7f00_0050_0000)]);
        assert_eq!(found(MAPS, "/usr/bin/other"), []);
        assert_eq!(found("x\n1-2 r-xp \nz-2 r-xp 0 0 0 /a\n", "/a"), []);
    }

    /// Resident pages of the program's code, in KiB.
    fn resident() -> usize {
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let program = std::env::current_exe().unwrap();
        let mut is_text = false;
        let mut sum = 0;
        for line in smaps.lines() {
            if let Some(rss) = line.strip_prefix("Rss:").filter(|_| is_text) {
                sum += rss.trim().trim_end_matches(" kB").parse::<usize>().unwrap();
            } else if line.split_once(' ').is_some_and(|(range, _)| range.contains('-')) {
                is_text = !text_of(line, &program).is_empty();
            }
        }
        sum
    }

    #[test]
    fn code_is_released_and_comes_back_where_it_is_used() {
        // All of it, as if starting had needed it.
        let program = std::env::current_exe().unwrap();
        for text in text_of(&std::fs::read_to_string("/proc/self/maps").unwrap(), &program) {
            let pages = text.step_by(4096).map(std::ptr::with_exposed_provenance::<u8>);
            // SAFETY: the addresses are in a readable mapping.
            let sum: usize = pages.map(|page| usize::from(unsafe { page.read_volatile() })).sum();
            assert_ne!(sum, 0);
        }
        let before = resident();
        release_text().unwrap();
        let after = resident();
        assert!(before > 0 && after < before / 2, "{before} KiB before, {after} KiB after");
    }
}
