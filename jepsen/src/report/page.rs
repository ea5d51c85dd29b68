//! The report as a page of its own: no scripts, no other files.

use std::fmt::Write as _;

use super::scene::Scene;
use super::timeline::{escaped, timeline};
use super::{text, words};
use crate::checker::Violation;
use crate::judge::Judgement;

const STYLE: &str = "\
body{font:14px/1.45 'DejaVu Sans',Verdana,sans-serif;margin:24px;color:#222;max-width:1760px}\
pre{background:#f5f6f8;padding:12px;overflow-x:auto}.line{overflow-x:auto;border:1px solid #ddd}\
h2{margin-top:36px}li.offending{font-weight:bold}.key span{padding:1px 8px;margin-right:8px;\
border:1px solid}.ok{background:#cfe8d5}.fail{background:#e4e4e8}.info{background:#fdecc0}\
.bad{background:#f9c6c0;border:2px solid #c0392b!important}.away{background:#c9ccd6}";

pub(super) fn page(judgement: &Judgement, scenes: &[(&Violation, Scene<'_>)]) -> String {
    let verdict = judgement.verdict().name();
    let summary = escaped(&text(judgement));
    let mut body = format!("<h1>The history is {verdict}</h1>\n<pre>{summary}</pre>\n");
    if !scenes.is_empty() {
        body.push_str(
            "<p class='key'><span class='ok'>worked</span><span class='fail'>certainly did \
             not</span><span class='info'>nobody knows; dashed: never answered</span>\
             <span class='bad'>contradict each other</span><span class='away'>node \
             away</span> Columns are moments, not lengths of time; a dotted line is a leap. Point \
             at anything for all of it.</p>\n",
        );
    }
    for (number, (violation, scene)) in (1..).zip(scenes) {
        section(number, violation, scene, &mut body);
    }
    format!(
        "<!DOCTYPE html>\n<html lang='en'><head><meta charset='utf-8'>\
         <title>{verdict}</title><style>{STYLE}</style></head>\n<body>\n{body}</body></html>\n"
    )
}

fn section(number: usize, violation: &Violation, scene: &Scene<'_>, body: &mut String) {
    let what = text::meaning(violation.property);
    let of = violation.partition.as_ref().map(words::place);
    let of = of.map_or_else(String::new, |of| format!(" in {}", escaped(&of)));
    let _ = writeln!(
        body,
        "<h2>{number}. {}{of}: {}</h2>\n<p>{}</p>\n<ul>",
        violation.property,
        escaped(what),
        escaped(&violation.detail)
    );
    for operation in &scene.operations {
        if scene.offending.contains(&operation.op) {
            let sentence = escaped(&words::sentence(operation, &scene.records));
            let _ = writeln!(body, "<li class='offending'>{sentence}</li>");
        }
    }
    let _ = writeln!(body, "</ul>\n<div class='line'>{}</div>", timeline(scene));
}
