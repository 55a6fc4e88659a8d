// Package sandbox is a stateful WeChat Pay platform for tests and demonstrations.
package sandbox
