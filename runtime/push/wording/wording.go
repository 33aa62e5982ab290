// Package wording is what notifications say in the runtime's own words, in the language of the device.
package wording

import (
	"golang.org/x/text/feature/plural"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
	"golang.org/x/text/message/catalog"
)

// The messages. They stand in the catalog in every language of texts.
const (
	newMessage  = "new message"
	newMessages = "new messages"
)

// NewMessage says that there is a mail and nothing about it (N-04). locale is what the device told, e.g. de-AT or pt_BR;
// where it is not known, it is English.
func NewMessage(locale string) string { return printer(locale).Sprintf(newMessage) }

// NewMessages says how many mails there are, at least one.
func NewMessages(locale string, count int) string { return printer(locale).Sprintf(newMessages, count) }

// Languages are those that there is a wording in; the first one is for all others.
func Languages() []language.Tag {
	tags := make([]language.Tag, len(texts))
	for i, t := range texts {
		tags[i] = t.language
	}
	return tags
}

func printer(locale string) *message.Printer {
	wanted, err := language.Parse(locale)
	if err != nil { // what is well-formed of it may do all the same; if nothing is, it is language.Und
		wanted = language.Make(locale)
	}
	_, index, _ := matcher.Match(wanted)
	return message.NewPrinter(texts[index].language, message.Catalog(translations))
}

// text is the wording of one language: forms are pairs of a plural case and its text, see plural.Selectf.
type text struct {
	language language.Tag
	one      string
	forms    []any
}

// simple are the forms of languages that tell one from many.
func simple(one, other string) []any { return []any{plural.One, one, plural.Other, other} }

var texts = []text{
	{language.English, "New message", simple("%d new message", "%d new messages")},
	{language.German, "Neue Nachricht", simple("%d neue Nachricht", "%d neue Nachrichten")},
	{language.French, "Nouveau message", simple("%d nouveau message", "%d nouveaux messages")},
	{language.Spanish, "Mensaje nuevo", simple("%d mensaje nuevo", "%d mensajes nuevos")},
	{language.Italian, "Nuovo messaggio", simple("%d nuovo messaggio", "%d nuovi messaggi")},
	{language.Dutch, "Nieuw bericht", simple("%d nieuw bericht", "%d nieuwe berichten")},
	{language.Portuguese, "Nova mensagem", simple("%d nova mensagem", "%d novas mensagens")},
	{language.Swedish, "Nytt meddelande", simple("%d nytt meddelande", "%d nya meddelanden")},
	{language.Danish, "Ny besked", simple("%d ny besked", "%d nye beskeder")},
	{language.MustParse("nb"), "Ny melding", simple("%d ny melding", "%d nye meldinger")},
	{language.Finnish, "Uusi viesti", simple("%d uusi viesti", "%d uutta viestiä")},
	{language.Polish, "Nowa wiadomość", []any{
		plural.One, "%d nowa wiadomość", plural.Few, "%d nowe wiadomości", plural.Many, "%d nowych wiadomości", plural.Other, "%d nowej wiadomości",
	}},
	{language.Czech, "Nová zpráva", []any{
		plural.One, "%d nová zpráva", plural.Few, "%d nové zprávy", plural.Many, "%d nové zprávy", plural.Other, "%d nových zpráv",
	}},
	{language.Russian, "Новое сообщение", []any{
		plural.One, "%d новое сообщение", plural.Few, "%d новых сообщения", plural.Many, "%d новых сообщений", plural.Other, "%d нового сообщения",
	}},
	{language.Turkish, "Yeni mesaj", simple("%d yeni mesaj", "%d yeni mesaj")},
	{language.Japanese, "新着メッセージ", []any{plural.Other, "新着メッセージ%d件"}},
	{language.Korean, "새 메시지", []any{plural.Other, "새 메시지 %d개"}},
	{language.SimplifiedChinese, "新邮件", []any{plural.Other, "%d封新邮件"}},
	{language.TraditionalChinese, "新郵件", []any{plural.Other, "%d封新郵件"}},
}

var (
	matcher      = language.NewMatcher(Languages())
	translations = newCatalog()
)

func newCatalog() catalog.Catalog {
	builder := catalog.NewBuilder(catalog.Fallback(language.English))
	for _, t := range texts {
		// A text of ours that the catalog does not take is found by the first test that runs.
		if err := builder.SetString(t.language, newMessage, t.one); err != nil {
			panic(err)
		}
		if err := builder.Set(t.language, newMessages, plural.Selectf(1, "%d", t.forms...)); err != nil {
			panic(err)
		}
	}
	return builder
}
