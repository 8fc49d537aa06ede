//! What `kubectl linkspan diagnose` and `ui` think about 200 clusters of three nodes each, once all of it was seen: which
//! questions nodes are asked, what is found, and what the page shows.

mod clusters;

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use linkspan::kubectl::diagnose::{Check, State, diagnose, questions};
use linkspan::kubectl::picture::ClusterPicture;
use linkspan::kubectl::ui::rates::Rates;
use linkspan::kubectl::ui::topology::topology;

criterion_group!(fleet, judge);
criterion_main!(fleet);

fn judge(criterion: &mut Criterion) {
    let mut picture = clusters::fleet(200, 3);
    picture.clusters.iter_mut().for_each(ClusterPicture::settle);
    let findings = diagnose(&picture);
    let tunnels = findings.iter().filter(|finding| finding.check == Check::Connections);
    assert_eq!(tunnels.filter(|finding| finding.state == State::Ok).count(), 200 * 199, "every tunnel is up");
    let bad = findings.iter().find(|finding| finding.state != State::Ok && finding.check != Check::Dns);
    assert_eq!(bad, None, "what is well is found to be well");
    let rates = Rates::default().after(&picture);
    let mut group = criterion.benchmark_group("200 clusters of 3 nodes");
    group.sample_size(10);
    group.bench_function("questions to nodes", |bencher| bencher.iter(|| questions(black_box(&picture))));
    group.bench_function("diagnose", |bencher| bencher.iter(|| diagnose(black_box(&picture))));
    group.bench_function("page", |bencher| bencher.iter(|| topology(black_box(&picture), &findings, &rates)));
    group.finish();
    let asked = questions(&picture);
    let asked = asked.iter().flat_map(|nodes| nodes.values()).map(serde_json::to_string);
    println!("largest line of questions: {} bytes", largest(asked));
    let answers = picture.clusters.iter().flat_map(|cluster| cluster.inspections.values());
    // As nodes write them, with a line for each field.
    let answers = answers.filter_map(|answer| answer.seen()).map(|node| serde_json::to_string_pretty(&node.inspection));
    println!("largest answer: {} bytes", largest(answers));
}

fn largest(texts: impl Iterator<Item = serde_json::Result<String>>) -> usize {
    texts.map(|text| text.map_or(0, |text| text.len())).max().unwrap_or_default()
}
