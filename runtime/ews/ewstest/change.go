package ewstest

import (
	"fmt"
	"time"
)

// event is one change as subscriptions hear of it.
type event struct {
	kind string
	at   time.Time
	// about is ItemId or FolderId with id and changeKey.
	about, id, changeKey string
	parent               *folder
	oldID                string
	oldParent            *folder
	unread               *int
}

// Deliver puts a mail into the mailbox's Inbox and returns its id.
func (s *Server) Deliver(address string, mail Mail) (itemID string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	box := s.mailbox(address)
	if box == nil {
		return "", fmt.Errorf("no mailbox %s", address)
	}
	arrived := &item{id: s.newID(), folder: box.inbox, mail: mail, received: s.options.Clock.Now()}
	box.items[arrived.id] = arrived
	events := []event{s.itemEvent("CreatedEvent", arrived), s.itemEvent("NewMailEvent", arrived)}
	if s.awkwardly() {
		// Rules and filters touch a mail right after it came.
		events = append(events, s.itemEvent("ModifiedEvent", arrived))
	}
	s.announce(box, append(events, s.folderEvent(box, box.inbox))...)
	return arrived.id, nil
}

// MarkRead marks a mail as read.
func (s *Server) MarkRead(itemID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	box, item, err := s.find(itemID)
	if err != nil {
		return fmt.Errorf("marking as read: %w", err)
	}
	item.read = true
	s.announce(box, s.itemEvent("ModifiedEvent", item), s.folderEvent(box, item.folder))
	return nil
}

// Delete moves a mail to the deleted items, as a user's delete does, and returns its new id.
func (s *Server) Delete(itemID string) (newID string, err error) {
	return s.Move(itemID, "deleteditems")
}

// Move moves a mail to inbox or deleteditems and returns its new id: a move changes it.
func (s *Server) Move(itemID, distinguishedFolder string) (newID string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	box, item, err := s.find(itemID)
	if err != nil {
		return "", fmt.Errorf("moving: %w", err)
	}
	target := box.folder(distinguishedFolder)
	if target == nil {
		return "", fmt.Errorf("moving: no folder %s", distinguishedFolder)
	}
	source := item.folder
	delete(box.items, item.id)
	item.id, item.folder = s.newID(), target
	box.items[item.id] = item
	moved := s.itemEvent("MovedEvent", item)
	moved.oldID, moved.oldParent = itemID, source
	s.announce(box, moved, s.folderEvent(box, source), s.folderEvent(box, target))
	return item.id, nil
}

// HardDelete removes a mail for good.
func (s *Server) HardDelete(itemID string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	box, item, err := s.find(itemID)
	if err != nil {
		return fmt.Errorf("deleting: %w", err)
	}
	delete(box.items, itemID)
	s.announce(box, s.itemEvent("DeletedEvent", item), s.folderEvent(box, item.folder))
	return nil
}

// itemEvent is a change of an item; s.mu is held.
func (s *Server) itemEvent(kind string, item *item) event {
	return event{
		kind: kind, at: s.options.Clock.Now(),
		about: "ItemId", id: item.id, changeKey: s.newChangeKey(), parent: item.folder,
	}
}

// folderEvent is what follows every change: the folder's counts have changed. Exchange sends the unread count or does
// not (ews.md, section 2).
func (s *Server) folderEvent(box *mailbox, changed *folder) event {
	e := event{
		kind: "ModifiedEvent", at: s.options.Clock.Now(),
		about: "FolderId", id: changed.id, changeKey: s.newChangeKey(), parent: box.root,
	}
	if !s.awkwardly() {
		e.unread = new(box.unread(changed))
	}
	return e
}

// awkwardly is a choice that half of the time falls on the awkward side, never if the server is calm; s.mu is held.
func (s *Server) awkwardly() bool { return s.random.IntN(2) == 0 && !s.options.Calm }

// concerns reports whether a subscription on the folder hears of e: what is or was in it, or the folder itself.
func (e event) concerns(watched *folder) bool {
	return e.kind == statusEvent || e.parent == watched || e.oldParent == watched || e.about == "FolderId" && e.id == watched.id
}

func (b *mailbox) folder(distinguished string) *folder {
	for _, folder := range b.folders() {
		if folder.distinguished == distinguished {
			return folder
		}
	}
	return nil
}
