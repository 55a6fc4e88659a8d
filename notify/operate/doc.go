// Package operate is what operators see of notifications and decide about them
// beside the single decision that the store carries out itself: a body whose
// personal data is masked, delivery queues that are paused, and the replay of a
// range of time.
package operate
