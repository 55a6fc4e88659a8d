package parking

import "sync"

// Flights are calls that run, by name: who comes later with the same request joins
// the call that is running, and what has begun is finished though nobody waits for
// it any more. The zero value is ready; it is safe for concurrent use.
type Flights[T any] struct {
	mu      sync.Mutex
	running map[string]*Flight[T]
	all     sync.WaitGroup
}

// Flight is one call.
type Flight[T any] struct {
	content string
	done    chan struct{}
	value   T
}

// Join starts run under a name, or joins what runs there; same is false when that
// is about something else than content. run must not panic.
func (f *Flights[T]) Join(name, content string, run func() T) (flight *Flight[T], started, same bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if flight = f.running[name]; flight != nil {
		return flight, false, flight.content == content
	}
	flight = &Flight[T]{content: content, done: make(chan struct{})}
	if f.running == nil {
		f.running = map[string]*Flight[T]{}
	}
	f.running[name] = flight
	f.all.Go(func() {
		flight.value = run()
		f.mu.Lock()
		delete(f.running, name)
		f.mu.Unlock()
		close(flight.done)
	})
	return flight, true, true
}

// Wait returns when nothing runs any more.
func (f *Flights[T]) Wait() { f.all.Wait() }

// Done is closed when Value is there.
func (f *Flight[T]) Done() <-chan struct{} { return f.done }

// Value is what the call came to; read it after Done.
func (f *Flight[T]) Value() T { return f.value }
