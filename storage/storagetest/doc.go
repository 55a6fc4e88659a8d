// Package storagetest holds what every store must pass, and the model that they
// are compared with.
//
// [Run] is the conformance suite: one test for each promise of the storage
// package, on both sides of every limit, concurrency, and random sequences of
// operations whose outcome is compared with the [Model]'s after every step.
// [Bench] measures.
//
// The model is a complete storage.Store that keeps everything in maps and looks
// for everything by walking through them. It is written to be read, and may
// stand in for a store in other packages' unit tests.
package storagetest
