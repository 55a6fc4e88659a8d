package fallback

import "time"

// orderSteps are the waits after an order was created
// (https://pay.weixin.qq.com/doc/v3/merchant/4012075249); afterExpiry comes in
// between where the order has a time_expire. WeChat Pay closes what is not paid
// after seven days.
var orderSteps = []time.Duration{
	5 * time.Second, 30 * time.Second,
	time.Minute, 3 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute,
	time.Hour, 2 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour,
}

// afterExpiry is how long after its time_expire an order is asked for, and closed
// when it is not paid.
const afterExpiry = time.Minute

// refundSteps are the waits after a refund was applied for: every minute for five
// minutes, then 5, 10, 20 and 30 minutes apart; then it is every hour for a day,
// and every day until the refund is final, for refundLife at most. PROCESSING
// lasts up to seven days, ABNORMAL until the merchant does something about it.
var refundSteps = []time.Duration{
	time.Minute, 2 * time.Minute, 3 * time.Minute, 4 * time.Minute, 5 * time.Minute,
	10 * time.Minute, 20 * time.Minute, 40 * time.Minute, 70 * time.Minute,
}

const (
	day        = 24 * time.Hour
	refundLife = 366 * day
)

// nextOrder is the first step after now; zero when there is none left. expire is
// zero without a time_expire.
func nextOrder(since, expire, now time.Time) time.Time {
	var next time.Time
	for _, step := range orderSteps {
		if at := since.Add(step); at.After(now) {
			next = at
			break
		}
	}
	if !expire.IsZero() {
		if at := expire.Add(afterExpiry); at.After(now) && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

// nextRefund is the first step after now; zero when there is none left.
func nextRefund(since, now time.Time) time.Time {
	for _, step := range refundSteps {
		if at := since.Add(step); at.After(now) {
			return at
		}
	}
	every, age := time.Hour, now.Sub(since)
	if age >= day {
		every = day
	}
	next := (age/every + 1) * every
	if next > refundLife {
		return time.Time{}
	}
	return since.Add(next)
}

// late moves a step back by up to a tenth of its distance, a minute at most, so
// that orders made at once are not asked for at once.
func late(at, since time.Time, random float64) time.Time {
	if at.IsZero() {
		return at
	}
	return at.Add(time.Duration(random * float64(min(at.Sub(since)/10, time.Minute))))
}

// again is when a question that found no verified answer is asked again: not
// more often than every 30 seconds, and less and less often.
func again(since, now time.Time) time.Time {
	return now.Add(max(30*time.Second, now.Sub(since)/10))
}
