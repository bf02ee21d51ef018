//! The documentation's links: every relative link in a Markdown file names a file that exists, and every page of
//! the book is in its table of contents.

use crate::root;
use anyhow::{Context, Result, bail};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// Checks all Markdown files that belong to the project.
pub fn run() -> Result<()> {
    let files = markdown_files(root())?;
    let mut broken = Vec::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        for (line, target) in relative_links(&text) {
            if !file.with_file_name(target).exists() {
                broken.push(format!("{}:{line}: `{target}` does not exist", shown(file)));
            }
        }
    }
    broken.extend(pages_outside_contents(&files)?);
    if !broken.is_empty() {
        bail!("\n{}", broken.join("\n"));
    }
    println!("{} Markdown files checked", files.len());
    Ok(())
}

fn markdown_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !name.starts_with('.') && !["target", "corpus", "book"].contains(&&*name) {
            files.extend(markdown_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    Ok(files)
}

fn pages_outside_contents(files: &[PathBuf]) -> Result<Vec<String>> {
    let book = root().join("docs/src");
    let contents = fs::read_to_string(book.join("SUMMARY.md")).context("cannot read docs/src/SUMMARY.md")?;
    let listed: Vec<_> = relative_links(&contents).into_iter().map(|(_, target)| book.join(target)).collect();
    let pages = files.iter().filter(|file| file.starts_with(&book) && !file.ends_with("SUMMARY.md"));
    let lost = pages.filter(|file| !listed.contains(file));
    Ok(lost.map(|file| format!("{}: not in docs/src/SUMMARY.md", shown(file))).collect())
}

/// `(line number, file)` of every link that points into the project.
fn relative_links(text: &str) -> Vec<(usize, &str)> {
    let mut links = Vec::new();
    let mut in_code = false;
    for (index, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        for rest in line.split("](").skip(if in_code { usize::MAX } else { 1 }) {
            let target = rest.split([')', ' ', '#']).next().unwrap_or_default();
            if !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:") {
                links.push((index + 1, target));
            }
        }
    }
    links
}

fn shown(file: &Path) -> std::path::Display<'_> {
    file.strip_prefix(root()).unwrap_or(file).display()
}

#[cfg(test)]
mod tests {
    use super::relative_links;

    #[test]
    fn finds_links_into_the_project_only() {
        let text = "see [a](a.md#part) and ![b](../b.svg \"t\")\n[web](https://example.org/x) [here](#here)\n\
                    ```\nv[0](no.md)\n```\n[c](c.md)";
        assert_eq!(relative_links(text), [(1, "a.md"), (1, "../b.svg"), (6, "c.md")]);
    }
}
