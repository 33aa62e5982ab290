package callback

// stackOfWork is about what a goroutine's stack holds on the way to Exchange or to a push service, in bytes.
const stackOfWork = 8 << 10

// growStack has the stack of a goroutine that has just begun grow to what it will need. Else it grows by doubling, and is copied
// each time with all that is on it: 5 % of the CPU of a mail went into that.
func growStack() { _ = touch(0) }

// touch reads a byte of a frame as large as the stack is to be.
//
//go:noinline
func touch(at int) byte {
	var frame [stackOfWork]byte
	return frame[at%stackOfWork]
}
