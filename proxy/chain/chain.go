// Package chain is a list whose links are part of what they link: adding and removing allocate
// nothing and search nothing.
package chain

import "iter"

// Link is something's place in one List. The zero Link is in none.
type Link[T any] struct {
	of         T
	prev, next *Link[T]
	in         bool
}

// List is a chain of links, the newest first. The zero List is empty.
type List[T any] struct{ first *Link[T] }

// Add puts k, the link of v, in front. It must not be in a list.
func (l *List[T]) Add(k *Link[T], v T) {
	if k.in {
		panic("BUG: a link added twice")
	}
	*k = Link[T]{of: v, next: l.first, in: true}
	if l.first != nil {
		l.first.prev = k
	}
	l.first = k
}

// Remove takes k out, if it is in the list.
func (l *List[T]) Remove(k *Link[T]) {
	if !k.in {
		return
	}
	if k.prev != nil {
		k.prev.next = k.next
	} else {
		l.first = k.next
	}
	if k.next != nil {
		k.next.prev = k.prev
	}
	*k = Link[T]{}
}

// First is the newest element; false when there is none.
func (l *List[T]) First() (v T, ok bool) {
	if l.first == nil {
		return v, false
	}
	return l.first.of, true
}

// Empty reports whether there is nothing in the list.
func (l *List[T]) Empty() bool { return l.first == nil }

// All is every element, the newest first. The one that was yielded may be removed meanwhile, others
// may not.
func (l *List[T]) All() iter.Seq[T] {
	return func(yield func(T) bool) {
		for k := l.first; k != nil; {
			v := k.of
			k = k.next // it may leave
			if !yield(v) {
				return
			}
		}
	}
}
