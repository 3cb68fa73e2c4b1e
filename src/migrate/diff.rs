//! A unified diff of a text and what a few edits make of it.

use std::fmt::Write as _;
use std::ops::Range;

use super::entry::{Edit, Lines};

/// The text with its edits. They are in order and do not overlap.
pub(super) fn apply(text: &str, edits: &[Edit]) -> String {
    let mut new = String::with_capacity(text.len());
    let mut copied = 0;
    for edit in edits {
        new.push_str(&text[copied..edit.range.start]);
        new.push_str(&edit.text);
        copied = edit.range.end;
    }
    new.push_str(&text[copied..]);
    new
}

/// The diff, as `patch` and `git apply -p0` take it.
pub(super) fn unified(name: &str, text: &str, edits: &[Edit]) -> String {
    let changes = changes(text, edits);
    let old: Vec<&str> = text.split_inclusive('\n').collect();
    let mut out = format!("--- {name}\n+++ {name}\n");
    let mut shift = 0_isize;
    let mut rest = changes.as_slice();
    while !rest.is_empty() {
        let near = |pair: &[Change]| pair[1].old.start - pair[0].old.end <= 2 * CONTEXT;
        let together = rest.windows(2).take_while(|pair| near(pair)).count() + 1;
        let (hunk, later) = rest.split_at(together);
        rest = later;
        shift += write_hunk(&mut out, &old, hunk, shift);
    }
    out
}

/// Lines that are replaced, and by what.
struct Change {
    old: Range<usize>,
    new: Vec<String>,
}

/// Writes a hunk and says by how many lines it moves those after it.
fn write_hunk(out: &mut String, old: &[&str], hunk: &[Change], shift: isize) -> isize {
    let (Some(first), Some(last)) = (hunk.first(), hunk.last()) else {
        return 0;
    };
    let start = first.old.start.saturating_sub(CONTEXT);
    let end = (last.old.end + CONTEXT).min(old.len());
    let removed: usize = hunk.iter().map(|change| change.old.len()).sum();
    let added: usize = hunk.iter().map(|change| change.new.len()).sum();
    let before = end - start;
    let after = before - removed + added;
    // A hunk without lines stands after a line, not at one.
    let at = |count: usize, line: usize| if count == 0 { line } else { line + 1 };
    let moved = start.saturating_add_signed(shift);
    let head = (at(before, start), at(after, moved));
    // Writing to a text cannot fail.
    writeln!(out, "@@ -{},{before} +{},{after} @@", head.0, head.1).ok();
    let mut line = start;
    for change in hunk {
        put(out, ' ', &old[line..change.old.start]);
        put(out, '-', &old[change.old.clone()]);
        let new: Vec<&str> = change.new.iter().map(String::as_str).collect();
        put(out, '+', &new);
        line = change.old.end;
    }
    put(out, ' ', &old[line..end]);
    added.cast_signed() - removed.cast_signed()
}

fn put(out: &mut String, mark: char, lines: &[&str]) {
    for line in lines {
        out.push(mark);
        out.push_str(line);
        if !line.ends_with('\n') {
            out.push_str("\n\\ No newline at end of file\n");
        }
    }
}

/// The lines that edits change, those that stay the same at either end left out.
fn changes(text: &str, edits: &[Edit]) -> Vec<Change> {
    let lines = Lines::of(text);
    let mut blocks: Vec<(Range<usize>, Vec<Edit>)> = Vec::new();
    for edit in edits {
        let whole = lines.whole(text, &edit.range);
        match blocks.last_mut().filter(|last| last.0.end > whole.start) {
            Some((range, edits)) => {
                range.end = range.end.max(whole.end);
                edits.push(edit.clone());
            }
            None => blocks.push((whole, vec![edit.clone()])),
        }
    }
    let changed = |(range, edits): (Range<usize>, Vec<Edit>)| {
        let inside = edits.into_iter().map(|edit| Edit {
            range: edit.range.start - range.start..edit.range.end - range.start,
            ..edit
        });
        let inside: Vec<Edit> = inside.collect();
        let old = &text[range.clone()];
        let new = apply(old, &inside);
        let old: Vec<&str> = old.split_inclusive('\n').collect();
        let new: Vec<&str> = new.split_inclusive('\n').collect();
        let same = |(a, b): &(&&str, &&str)| a == b;
        let head = old.iter().zip(&new).take_while(same).count();
        let ends = old[head..].iter().rev().zip(new[head..].iter().rev());
        let tail = ends.take_while(same).count();
        let first = lines.line(range.start) + head;
        Change {
            old: first..first + old.len() - head - tail,
            new: new[head..new.len() - tail]
                .iter()
                .map(ToString::to_string)
                .collect(),
        }
    };
    let mut changes: Vec<Change> = Vec::with_capacity(blocks.len());
    for change in blocks.into_iter().map(changed) {
        match changes.last_mut() {
            Some(last) if last.old.end == change.old.start => {
                last.old.end = change.old.end;
                last.new.extend(change.new);
            }
            _ => changes.push(change),
        }
    }
    changes
}

const CONTEXT: usize = 3;
