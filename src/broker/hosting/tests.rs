//! Claims about the order in which changes are carried out.

use super::*;

#[test]
fn a_topic_goes_before_another_of_its_name_comes_whatever_their_ids_are() {
    let (low, high) = (TopicId::from_random([1; 16]), TopicId::from_random([2; 16]));
    let deleted = || TopicDelta::Deleted {
        name: "orders".into(),
        partitions: 1,
    };
    for (gone, made) in [(low, high), (high, low)] {
        let changes = BTreeMap::from([(gone, deleted()), (made, TopicDelta::Created)]);
        let order: Vec<TopicId> = deletions_first(&changes).map(|(id, _)| *id).collect();
        assert_eq!(order, [gone, made]);
    }
}
